{{/*
Host headers the server answers to: the Service by all its names, a port-forward, the pod and its node by their IPs (scrapes;
the kubelet fills these in), and your own. Not MLflow's default 10.*, which also matches a name like 10.evil.example.
*/}}
{{- define "trainyard.mlflow.allowedHosts" -}}
{{- $service := include "trainyard.componentName" (dict "root" . "component" "mlflow") -}}
{{- $hosts := list -}}
{{- range $suffix := list "" (printf ".%s" .Release.Namespace) (printf ".%s.svc" .Release.Namespace) (printf ".%s.svc.cluster.local" .Release.Namespace) -}}
{{- $hosts = concat $hosts (list (print $service $suffix) (print $service $suffix ":5000")) -}}
{{- end -}}
{{- $hosts = concat $hosts (list "localhost" "localhost:*" "127.0.0.1" "127.0.0.1:*") -}}
{{- $hosts = concat $hosts (list "$(TRAINYARD_POD_IP):5000" "[$(TRAINYARD_POD_IP)]:5000" "$(TRAINYARD_NODE_IP):*") -}}
{{- concat $hosts .Values.mlflow.extraAllowedHosts | uniq | join "," -}}
{{- end -}}

{{/* Origins whose pages may write: the extra hosts, by either scheme. Browsers on localhost always may. */}}
{{- define "trainyard.mlflow.corsOrigins" -}}
{{- $origins := list -}}
{{- range .Values.mlflow.extraAllowedHosts -}}
{{- $origins = concat $origins (list (print "https://" .) (print "http://" .)) -}}
{{- end -}}
{{- join "," $origins -}}
{{- end -}}

{{/* The database, as the migration and the server read it. */}}
{{- define "trainyard.mlflow.databaseEnv" -}}
- name: MLFLOW_BACKEND_STORE_URI
  valueFrom:
    secretKeyRef: {name: {{ include "trainyard.mlflow.secretName" . }}, key: MLFLOW_BACKEND_STORE_URI}
{{- end -}}

{{/* The artifact store, as the bucket step and the server read it. */}}
{{- define "trainyard.mlflow.s3Env" -}}
{{- $secret := include "trainyard.s3.secretName" . -}}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: access-key}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: secret-key}
- name: AWS_DEFAULT_REGION
  value: {{ ternary "us-east-1" .Values.externalS3.region .Values.objectstore.enabled | quote }}
{{- with include "trainyard.s3.endpoint" . }}
- name: MLFLOW_S3_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Changes with what the chart puts into the Secrets that the pod reads, so that new passwords restart it. */}}
{{- define "trainyard.mlflow.checksum" -}}
{{- $parts := list (include "trainyard.mlflow.secretName" .) (include "trainyard.s3.secretName" .) -}}
{{- if include "trainyard.postgres.generated" . -}}
{{- $parts = append $parts (include "trainyard.postgres.password" (dict "root" . "role" "mlflow")) -}}
{{- end -}}
{{- if .Values.objectstore.enabled -}}
{{- $parts = append $parts (include "trainyard.objectstore.keys" .) -}}
{{- end -}}
{{- join "\n" $parts | sha256sum -}}
{{- end -}}
