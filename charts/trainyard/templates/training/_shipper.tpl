{{/*
The shipper: a native sidecar that delivers what the training process writes to its spool. It starts before that process and
outlives it, so records arrive and the run gets a truthful end even after SIGKILL. Takes what `trainyard.training.spec` takes.
*/}}
{{- define "trainyard.training.shipper" -}}
- name: shipper
  restartPolicy: Always
  {{- include "trainyard.containerDefaults" (dict "root" .root "image" .shipperImage) | nindent 2 }}
  args: [spool, ship, --follow]
  {{- /* It gives up, and says what is missing, before the kubelet kills it. */}}
  {{- $grace := sub (int .job.gracePeriodSeconds) 5 | toString }}
  {{- include "trainyard.training.environment" (merge (dict "own" (dict "TRAINYARD_SHIP_GRACE_S" $grace)) .) | nindent 2 }}
  resources:
    {{- toYaml .job.shipperResources | nindent 4 }}
  volumeMounts:
    - {name: state, mountPath: /state}
    # Of its own: what a program of another user leaves in /tmp could shut the shipper out.
    - {name: shipper-tmp, mountPath: /tmp}
{{- end -}}

{{/*
Its image: the trainer's, whatever the Job's own is. A Job that exists keeps the one that it was made with: its pod template cannot
change, and a new shipper is no reason to train again. Takes dict "root" $ "live" <the Job in the cluster, or an empty dict>.
*/}}
{{- define "trainyard.training.shipperImage" -}}
{{- $image := include "trainyard.image" (dict "root" .root "name" "trainer") -}}
{{- range dig "spec" "template" "spec" "initContainers" list .live -}}
{{- if eq .name "shipper" -}}{{- $image = .image -}}{{- end -}}
{{- end -}}
{{- $image -}}
{{- end -}}
