{{/* The keys that the chart generated, as the Secret's data; empty with a Secret of yours. */}}
{{- define "trainyard.objectstore.keys" -}}
{{- if and .Values.objectstore.enabled (not .Values.objectstore.existingSecret) -}}
{{- $secret := include "trainyard.s3.secretName" . -}}
access-key: {{ include "trainyard.generated" (dict "root" . "secret" $secret "key" "access-key") | b64enc }}
secret-key: {{ include "trainyard.generated" (dict "root" . "secret" $secret "key" "secret-key") | b64enc }}
{{- end -}}
{{- end -}}
