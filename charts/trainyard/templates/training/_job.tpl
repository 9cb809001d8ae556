{{/* A Job with its defaults, as YAML. Takes dict "root" $ "job" <entry of trainingJobs>. A key of the Job replaces the default's whole value. */}}
{{- define "trainyard.training.job" -}}
{{- $job := deepCopy .root.Values.trainingDefaults -}}
{{- range $key, $value := .job -}}{{- $_ := set $job $key $value -}}{{- end -}}
{{- toYaml $job -}}
{{- end -}}

{{/*
The name that a Job's objects begin with: <FULL>-<name>. At most 49 characters, so that "-<8 of hash>" and the "-<index>" of a pod's
hostname fit into 63. The release's part is cut, never the Job's own name.
*/}}
{{- define "trainyard.training.prefix" -}}
{{- $full := include "trainyard.fullname" .root -}}
{{- printf "%s-%s" (include "trainyard.cut" (dict "name" $full "length" (sub 48 (len .name)))) .name -}}
{{- end -}}

{{/* What sort of Job it is; also the component that its objects belong to. */}}
{{- define "trainyard.training.kind" -}}
{{- ternary "sweep" "training" (hasKey . "sweep") -}}
{{- end -}}

{{/* Labels of a Job and its pods besides the common ones. */}}
{{- define "trainyard.training.labels" -}}
trainyard.dev/kind: {{ include "trainyard.training.kind" . }}
trainyard.dev/name: {{ .name }}
{{- with .job.queue }}
trainyard.dev/queue: {{ . }}
{{- end }}
{{- end -}}

{{/* Name of the headless Service through which the pods of one Job find each other. */}}
{{- define "trainyard.training.service" -}}
{{- printf "%s-nodes" (include "trainyard.training.prefix" .) -}}
{{- end -}}

{{/* Name of the volume with a Job's checkpoints; the same for every spec of the Job. */}}
{{- define "trainyard.training.claim" -}}
{{- printf "%s-checkpoint" (include "trainyard.training.prefix" .) -}}
{{- end -}}

{{/*
Spec of a Job but for what may change while it exists: `suspend`, which is Kueue's, and the time to live. The Job's name ends in a hash of it, so
nothing here may depend on the chart's version. Takes dict "root" $ "name" <name> "job" <Job with defaults>, as all helpers here, for a sweep
"sweep" <what `trainyard.sweep.context` says of it>, and "shipperImage" <reference>, which the hash leaves out.
*/}}
{{- define "trainyard.training.spec" -}}
{{- $sweep := .sweep | default dict -}}
# Indexed with as many completions as pods: every pod has a rank and a host name, and gang schedulers take this shape.
completionMode: Indexed
completions: {{ dig "completions" .job.nodes $sweep }}
parallelism: {{ include "trainyard.training.parallelism" . }}
{{- if gt (int .job.nodes) 1 }}
# Counted for each rank: nodes fail together, and each failure counted for all would double the time until any of them comes back.
backoffLimitPerIndex: {{ .job.retries }}
maxFailedIndexes: 0
{{- else }}
backoffLimit: {{ .job.retries }}
{{- end }}
{{- with int .job.deadlineSeconds }}
activeDeadlineSeconds: {{ . }}
{{- end }}
# A pod is replaced when it is gone, not while it still writes its checkpoint.
podReplacementPolicy: Failed
podFailurePolicy:
  rules:
    # Evicted, preempted, node drained: not the Job's fault.
    - action: Ignore
      onPodConditions:
        - {type: DisruptionTarget, status: "True"}
    # Interrupted with a checkpoint written; so leave the nodes beside one that was evicted, too.
    - action: Ignore
      onExitCodes: {containerName: trainer, operator: In, values: [75]}
    # Wrong configuration or data: no retry makes it right. The shipper's end is no verdict on the Job.
    - action: FailJob
      onExitCodes: {containerName: trainer, operator: In, values: [42]}
template:
  metadata:
    labels:
      {{- include "trainyard.selectorLabels" (dict "root" .root "component" (include "trainyard.training.kind" .)) | nindent 6 }}
      {{- include "trainyard.training.labels" . | nindent 6 }}
  spec:
    {{- include "trainyard.podDefaults" .root | nindent 4 }}
    restartPolicy: Never
    terminationGracePeriodSeconds: {{ int .job.gracePeriodSeconds }}
    {{- if gt (int .job.nodes) 1 }}
    subdomain: {{ include "trainyard.training.service" . }}
    {{- end }}
    {{- with .job.priorityClass }}
    priorityClassName: {{ . }}
    {{- end }}
    {{- with .job.nodeSelector }}
    nodeSelector:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- include "trainyard.training.tolerations" .job | nindent 4 }}
    initContainers:
      {{- include "trainyard.training.shipper" . | nindent 6 }}
    containers:
      - name: trainer
        {{- include "trainyard.containerDefaults" (dict "root" .root "image" (include "trainyard.training.image" .)) | nindent 8 }}
        {{- with include "trainyard.training.command" . | fromYamlArray }}
        command:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with .job.args }}
        args:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- $own := dict "own" (include "trainyard.training.own" . | fromYaml) "ownSecrets" (dig "secrets" list $sweep) }}
        {{- include "trainyard.training.environment" (merge $own .) | nindent 8 }}
        resources:
          {{- include "trainyard.training.resources" .job | nindent 10 }}
        volumeMounts:
          - {name: state, mountPath: /state}
          - {name: tmp, mountPath: /tmp}
          - {name: shm, mountPath: /dev/shm}
          {{- if .sweep }}
          - {name: sweep, mountPath: /sweep, readOnly: true}
          {{- end }}
    volumes:
      - name: state
        {{- if .job.checkpoint }}
        persistentVolumeClaim: {claimName: {{ include "trainyard.training.claim" . }}}
        {{- else }}
        emptyDir: {sizeLimit: {{ .job.stateSize }}}
        {{- end }}
      - name: tmp
        emptyDir: {sizeLimit: {{ .job.tmpSize }}}
      - name: shipper-tmp
        emptyDir: {sizeLimit: {{ .job.tmpSize }}}
      - name: shm
        emptyDir: {medium: Memory, sizeLimit: {{ .job.shmSize }}}
      {{- with .sweep }}
      - name: sweep
        configMap: {name: {{ .configMap }}}
      {{- end }}
{{- end -}}

{{/* How many pods run at a time: the nodes of a training, the workers of a sweep. */}}
{{- define "trainyard.training.parallelism" -}}
{{- dig "parallelism" .job.nodes (.sweep | default dict) -}}
{{- end -}}

{{/* How many processes the launcher starts in each pod; 0 where there is none and the program starts as it is. */}}
{{- define "trainyard.training.launched" -}}
{{- $processes := ternary (max 1 (int .job.gpus)) (int .job.processesPerNode) (eq (toString .job.processesPerNode) "auto") -}}
{{- ternary $processes 0 (or (gt (int .job.nodes) 1) (gt $processes 1)) -}}
{{- end -}}

{{/* The trainer's command, as a YAML list: the Job's own, under the launcher where several processes train together. */}}
{{- define "trainyard.training.command" -}}
{{- $command := .job.command -}}
{{- $processes := include "trainyard.training.launched" . -}}
{{- if ne $processes "0" -}}
{{- $launcher := list "trainyard" "launch" "--nnodes" (toString .job.nodes) "--nproc-per-node" $processes "--" -}}
{{- $command = concat $launcher ($command | default (list "trainyard")) -}}
{{- end -}}
{{- toYaml $command -}}
{{- end -}}

{{/* Variables that only the trainer gets, as YAML. */}}
{{- define "trainyard.training.own" -}}
TRAINYARD_SHIPPER: sidecar
# What it has not saved by then is lost: the rest of the pod's time is the shipper's.
TRAINYARD_GRACE_S: {{ max 5 (sub (int .job.gracePeriodSeconds) 15) | quote }}
{{- with .job.checkpointUri }}
TRAINYARD_CHECKPOINT_URI: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Reference of the image that trains. */}}
{{- define "trainyard.training.image" -}}
{{- .job.image | default (include "trainyard.image" (dict "root" .root "name" "trainer")) -}}
{{- end -}}

{{/*
Environment of both containers: the client contract, the pod's own, then the Job's (`trainyard.refuse.job` keeps them apart).
Takes "own" besides, a dict of what only this container gets, and "ownSecrets", names of Secrets that only it gets.
*/}}
{{- define "trainyard.training.environment" -}}
envFrom:
  - configMapRef: {name: {{ include "trainyard.client.name" .root }}}
  - secretRef: {name: {{ include "trainyard.client.name" .root }}}
  {{- range concat .job.envFromSecrets (.ownSecrets | default list) }}
  - secretRef: {name: {{ . }}}
  {{- end }}
env:
  - name: TRAINYARD_JOB_NAME
    valueFrom:
      fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}
  - name: TRAINYARD_JOB_UID
    valueFrom:
      fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/controller-uid']"}
  - name: TRAINYARD_POD_NAME
    valueFrom:
      fieldRef: {fieldPath: metadata.name}
  - name: TRAINYARD_NODE_NAME
    valueFrom:
      fieldRef: {fieldPath: spec.nodeName}
  - {name: TRAINYARD_IMAGE, value: {{ include "trainyard.training.image" . | quote }}}
  - {name: TRAINYARD_STATE_DIR, value: /state}
  - {name: TRAINYARD_TRACKING, value: {{ .job.tracking | quote }}}
  {{- range $name, $value := .own }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
  - {name: HOME, value: /tmp}
  {{- if gt (int .job.nodes) 1 }}
  # The kubelet puts in the Job's name, which this spec cannot know: it ends in the spec's hash.
  - {name: MASTER_ADDR, value: $(TRAINYARD_JOB_NAME)-0.{{ include "trainyard.training.service" . }}}
  - {name: MASTER_PORT, value: "29500"}
  {{- end }}
  {{- range $name, $value := .job.env }}
  - {name: {{ $name }}, value: {{ $value | quote }}}
  {{- end }}
{{- end -}}

{{/* Resources with the GPUs, which Kubernetes wants as a limit. Takes the Job. */}}
{{- define "trainyard.training.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpus) 0 -}}
{{- $_ := set $resources.limits .gpuResource (int .gpus) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* The Job's tolerations and that of GPU nodes' usual taint. Takes the Job. */}}
{{- define "trainyard.training.tolerations" -}}
{{- $tolerations := .tolerations -}}
{{- if gt (int .gpus) 0 -}}
{{- $tolerations = append $tolerations (dict "key" .gpuResource "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- with $tolerations -}}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}
