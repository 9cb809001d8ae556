{{/* Reference of one of our images. Takes dict "root" $ "name" "mlflow". */}}
{{- define "trainyard.image" -}}
{{- $images := .root.Values.images -}}
{{- $image := get $images .name -}}
{{- with $images.registry -}}{{- printf "%s/" (trimSuffix "/" .) -}}{{- end -}}
{{- printf "%s:%s" $image.repository ($image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{/* The beginning of every pod spec: the restricted Pod Security Standard, no API token, no variables named after Services. */}}
{{- define "trainyard.podDefaults" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
  {{- with .Values.fsGroup }}
  fsGroup: {{ int . }}
  # Only a fresh volume: Postgres refuses to start on files that a later pass made writable for the group.
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
{{- end -}}

{{/* Image and rights of every container. Takes dict "root" $ "image" <reference>. */}}
{{- define "trainyard.containerDefaults" -}}
image: {{ .image | quote }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Spec of a PersistentVolumeClaim. Takes a dict with size, accessMode and storageClass. */}}
{{- define "trainyard.claimSpec" -}}
accessModes: [{{ .accessMode }}]
{{- with .storageClass }}
storageClassName: {{ . | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end -}}
