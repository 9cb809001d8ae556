{{/* The Job itself, for a training or a sweep. Takes what `trainyard.training.spec` takes, but for the shipper's image. */}}
{{- define "trainyard.training.manifest" -}}
{{- /* Over the parsed spec: a comment in the template is no reason to train again. The shipper's image neither, so it is left out. */}}
{{- $hash := include "trainyard.training.spec" (merge (dict "shipperImage" "") .) | fromYaml | toJson | sha256sum | trunc 8 }}
{{- $fullname := printf "%s-%s" (include "trainyard.training.prefix" .) $hash }}
{{- $live := lookup "batch/v1" "Job" .root.Release.Namespace $fullname | default dict }}
{{- $shipperImage := include "trainyard.training.shipperImage" (dict "root" .root "live" $live) }}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $fullname }}
  labels:
    {{- include "trainyard.labels" (dict "root" .root "component" (include "trainyard.training.kind" .)) | nindent 4 }}
    {{- include "trainyard.training.labels" . | nindent 4 }}
    {{- with .job.queue }}
    kueue.x-k8s.io/queue-name: {{ . }}
    {{- end }}
spec:
  {{- if .job.queue }}
  # Suspended when it is made; afterwards as Kueue has it, or an upgrade would stop a Job that was admitted.
  suspend: {{ dig "spec" "suspend" true $live }}
  {{- end }}
  {{- with int .job.ttlSeconds }}
  ttlSecondsAfterFinished: {{ . }}
  {{- end }}
  {{- include "trainyard.training.spec" (merge (dict "shipperImage" $shipperImage) .) | nindent 2 }}
{{- end -}}

{{/* The volume at /state that outlives a Job's pods. Takes what the Job takes. */}}
{{- define "trainyard.training.claimManifest" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ include "trainyard.training.claim" . }}
  labels:
    {{- include "trainyard.labels" (dict "root" .root "component" (include "trainyard.training.kind" .)) | nindent 4 }}
    trainyard.dev/name: {{ .name }}
  annotations:
    helm.sh/resource-policy: keep
spec:
  {{- $accessMode := ternary "ReadWriteMany" "ReadWriteOncePod" (gt (include "trainyard.training.parallelism" . | int) 1) }}
  {{- include "trainyard.claimSpec" (merge (deepCopy .job.checkpoint) (dict "accessMode" $accessMode)) | nindent 2 }}
{{- end -}}
