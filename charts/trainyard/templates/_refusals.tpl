{{/* Combinations of values that the schema cannot refuse. Each message: the values, the harm, the remedy. */}}
{{- define "trainyard.refuse" -}}
{{- if not (regexMatch "^[a-z]" (include "trainyard.fullname" .)) -}}
{{- fail (printf "release name %q begins with a digit, which Kubernetes refuses in a Service's name: use another release name" .Release.Name) -}}
{{- end -}}
{{- range $name := list "mlflow" "postgres" "objectstore" "trainer" -}}
{{- include "trainyard.refuse.latest" (dict "path" (printf "images.%s.tag" $name) "tag" (get $.Values.images $name).tag) -}}
{{- end -}}
{{- include "trainyard.refuse.postgres" . -}}
{{- include "trainyard.refuse.s3" . -}}
{{- range $name, $job := .Values.trainingJobs -}}
{{- include "trainyard.refuse.job" (dict "path" (printf "trainingJobs.%s" $name) "name" $name "job" (include "trainyard.training.job" (dict "root" $ "job" $job) | fromYaml)) -}}
{{- end -}}
{{- range $name, $sweep := .Values.sweeps -}}
{{- include "trainyard.refuse.sweep" (dict "root" $ "name" $name "entry" $sweep) -}}
{{- end -}}
{{- end -}}

{{/* Takes dict "path" <where it was said> "tag" <the tag>. */}}
{{- define "trainyard.refuse.latest" -}}
{{- if eq .tag "latest" -}}
{{- fail (printf "%s=latest: nodes would run whatever that was when they pulled it, each its own. Name a version or a digest" .path) -}}
{{- end -}}
{{- end -}}

{{- define "trainyard.refuse.postgres" -}}
{{- $external := .Values.externalPostgres.existingSecret -}}
{{- if .Values.postgres.enabled -}}
  {{- if $external -}}
  {{- fail (printf "postgres.enabled=true and externalPostgres.existingSecret=%q: the embedded Postgres would run unused, or hide the data in yours. Set postgres.enabled=false to use yours, or remove externalPostgres.existingSecret" $external) -}}
  {{- end -}}
  {{- $connections := include "trainyard.postgres.maxConnections" . | int -}}
  {{- if gt $connections 564 -}}
  {{- fail (printf "mlflow.replicas=%d and mlflow.workers=%d may open %d database connections: the embedded Postgres is made for 564 at most and would run out of memory. Lower one of them, or use externalPostgres" (int .Values.mlflow.replicas) (int .Values.mlflow.workers) $connections) -}}
  {{- end -}}
{{- else -}}
  {{- if not $external -}}
  {{- fail "postgres.enabled=false and externalPostgres.existingSecret is empty: MLflow would have no database. Name a Secret with key MLFLOW_BACKEND_STORE_URI in externalPostgres.existingSecret, or set postgres.enabled=true" -}}
  {{- end -}}
  {{- with .Values.postgres.existingSecret -}}
  {{- fail (printf "postgres.enabled=false and postgres.existingSecret=%q: that Secret would never be read. Name the database's Secret in externalPostgres.existingSecret and remove postgres.existingSecret" .) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- define "trainyard.refuse.s3" -}}
{{- $s3 := .Values.externalS3 -}}
{{- if .Values.objectstore.enabled -}}
  {{- range $key := list "existingSecret" "endpointUrl" "bucket" -}}
  {{- with get $s3 $key -}}
  {{- fail (printf "objectstore.enabled=true and externalS3.%s=%q: artifacts would go to the embedded store, not to yours. Set objectstore.enabled=false to use yours, or remove externalS3.%s" $key . $key) -}}
  {{- end -}}
  {{- end -}}
{{- else -}}
  {{- range $key := list "existingSecret" "bucket" -}}
  {{- if not (get $s3 $key) -}}
  {{- fail (printf "objectstore.enabled=false and externalS3.%s is empty: MLflow would have no place for artifacts. Set externalS3.existingSecret and externalS3.bucket, or objectstore.enabled=true" $key) -}}
  {{- end -}}
  {{- end -}}
  {{- with .Values.objectstore.existingSecret -}}
  {{- fail (printf "objectstore.enabled=false and objectstore.existingSecret=%q: that Secret would never be read. Name the store's Secret in externalS3.existingSecret and remove objectstore.existingSecret" .) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* Takes dict "path" <where the Job is said> "name" <its name> "job" <the Job with its defaults>, for a sweep "sweep" besides. */}}
{{- define "trainyard.refuse.job" -}}
{{- $path := .path -}}
{{- if or (gt (len .name) 30) (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .name)) -}}
{{- fail (printf "%s: a Job's name becomes part of its pods' host names. Use at most 30 lower-case letters, digits and \"-\", with a letter first and no \"-\" last" $path) -}}
{{- end -}}
{{- include "trainyard.refuse.latest" (dict "path" (printf "%s.image" $path) "tag" (splitList ":" .job.image | last)) -}}
{{- if not (or .job.image .job.command .job.args) -}}
{{- fail (printf "%s has neither image, command nor args: the trainer's image alone trains nothing. Say what to run, for example args: [train, digits]" $path) -}}
{{- end -}}
{{- range $key, $_ := .job.env -}}
  {{- if has $key (list "TRAINYARD_JOB_NAME" "TRAINYARD_JOB_UID" "TRAINYARD_POD_NAME" "TRAINYARD_NODE_NAME" "TRAINYARD_STATE_DIR" "TRAINYARD_SHIPPER" "HOME" "MASTER_ADDR" "MASTER_PORT") -}}
  {{- fail (printf "%s.env.%s: the chart sets this variable, and a second value would break the Job's resumption, its tracking or the pods' meeting. Remove it" $path $key) -}}
  {{- end -}}
  {{- with get (dict "TRAINYARD_IMAGE" "image" "TRAINYARD_TRACKING" "tracking" "TRAINYARD_CHECKPOINT_URI" "checkpointUri" "TRAINYARD_GRACE_S" "gracePeriodSeconds" "TRAINYARD_SHIP_GRACE_S" "gracePeriodSeconds") $key -}}
  {{- fail (printf "%s.env.%s: the chart sets this variable from %s.%s, and two values would contradict each other. Remove it and set %s.%s" $path $key $path . $path .) -}}
  {{- end -}}
  {{- if regexMatch "(PASSWORD|API_KEY|ACCESS_KEY|TOKEN)$" $key -}}
  {{- fail (printf "%s.env.%s: anyone who may see the Job could read it. Put it into a Secret and name that in %s.envFromSecrets" $path $key $path) -}}
  {{- end -}}
{{- end -}}
{{- if and (eq .job.tracking "json") (not .job.checkpoint) -}}
{{- fail (printf "%s.tracking=json and %s.checkpoint is empty: everything the run records would be lost with its pod. Add mlflow to %s.tracking, or give %s.checkpoint a size" $path $path $path $path) -}}
{{- end -}}
{{- include "trainyard.refuse.launch" . -}}
{{- with .job.checkpoint -}}
  {{- $pods := include "trainyard.training.parallelism" $ | int -}}
  {{- $unit := ternary "worker" "node" (hasKey $ "sweep") -}}
  {{- if and (gt $pods 1) (eq (.accessMode | default "") "ReadWriteOncePod") -}}
  {{- fail (printf "%s.%ss=%d and %s.checkpoint.accessMode=ReadWriteOncePod: all pods but one would wait for the volume for ever. Use ReadWriteMany, or one %s" $path $unit $pods $path $unit) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* What the launcher cannot start. Takes dict "path" <where the Job is said> "job" <the job with its defaults>. */}}
{{- define "trainyard.refuse.launch" -}}
{{- $processes := include "trainyard.training.launched" . | int -}}
{{- if and (gt $processes 0) .job.image (not .job.command) -}}
{{- fail (printf "%s.nodes=%d, %s.gpus=%d and %s.processesPerNode=%v need `trainyard launch`, which starts a command and cannot know the entrypoint of %s.image=%q. Say what to start in %s.command, for example [trainyard], or set %s.processesPerNode=0 if the image brings a launcher of its own" .path (int .job.nodes) .path (int .job.gpus) .path .job.processesPerNode .path .job.image .path .path) -}}
{{- end -}}
{{- if and (gt (int .job.gpus) 0) (gt $processes (int .job.gpus)) -}}
{{- fail (printf "%s.processesPerNode=%d and %s.gpus=%d: NCCL refuses two processes on one GPU. Set processesPerNode=auto for one per GPU, or raise gpus" .path $processes .path (int .job.gpus)) -}}
{{- end -}}
{{- end -}}
