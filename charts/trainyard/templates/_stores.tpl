{{/*
A generated password: the one in the live Secret, else a new one. Takes dict "root" $ "secret" <name> "key" <key>.
Remembered on the root for the rest of the rendering, since several Secrets and a pod annotation must agree on it.
*/}}
{{- define "trainyard.generated" -}}
{{- $known := get .root "trainyardGenerated" | default dict -}}
{{- $id := printf "%s/%s" .secret .key -}}
{{- if not (hasKey $known $id) -}}
  {{- $secret := lookup "v1" "Secret" .root.Release.Namespace .secret | default dict -}}
  {{- $live := get (get $secret "data" | default dict) .key | default "" | b64dec -}}
  {{- $_ := set $known $id ($live | default (randAlphaNum 32)) -}}
  {{- $_ := set .root "trainyardGenerated" $known -}}
{{- end -}}
{{- get $known $id -}}
{{- end -}}

{{/* The embedded Postgres' password of one role. Takes dict "root" $ "role" "mlflow". */}}
{{- define "trainyard.postgres.password" -}}
{{- $secret := include "trainyard.componentName" (dict "root" .root "component" "postgres") -}}
{{- include "trainyard.generated" (dict "root" .root "secret" $secret "key" (printf "%s-password" .role)) -}}
{{- end -}}

{{/* Database URL of the role's own database in the embedded Postgres. The driver is said: without it SQLAlchemy 2.1 takes psycopg 3. */}}
{{- define "trainyard.postgres.url" -}}
{{- $host := include "trainyard.componentName" (dict "root" .root "component" "postgres") -}}
{{- printf "postgresql+psycopg2://%s:%s@%s:5432/%s" .role (include "trainyard.postgres.password" .) $host .role -}}
{{- end -}}

{{/* True where the chart makes the embedded Postgres' passwords, and with them the Secrets that hold database URLs. */}}
{{- define "trainyard.postgres.generated" -}}
{{- if and .Values.postgres.enabled (not .Values.postgres.existingSecret) -}}true{{- end -}}
{{- end -}}

{{/* Secret with the embedded Postgres' passwords. */}}
{{- define "trainyard.postgres.secretName" -}}
{{- .Values.postgres.existingSecret | default (include "trainyard.componentName" (dict "root" . "component" "postgres")) -}}
{{- end -}}

{{/* Secret whose key MLFLOW_BACKEND_STORE_URI the tracking server reads. */}}
{{- define "trainyard.mlflow.secretName" -}}
{{- if include "trainyard.postgres.generated" . -}}
{{- include "trainyard.componentName" (dict "root" . "component" "mlflow") -}}
{{- else -}}
{{- ternary .Values.postgres.existingSecret .Values.externalPostgres.existingSecret .Values.postgres.enabled -}}
{{- end -}}
{{- end -}}

{{/* Secret with key TRAINYARD_OPTUNA_URL; empty where there is none. */}}
{{- define "trainyard.optuna.secretName" -}}
{{- $generated := ternary (include "trainyard.componentName" (dict "root" . "component" "optuna")) "" (eq (include "trainyard.postgres.generated" .) "true") -}}
{{- .Values.optuna.existingSecret | default $generated -}}
{{- end -}}

{{/*
max_connections: MLflow's pool (5 + 36 of overflow) per worker, 64 for 32 workers of Optuna sweeps, and 30 for migrations, the exporter
and people. A worker has 40 request threads, of which log-batch takes two connections each in turn: with fewer than 41 they deadlock
for 30 s.
*/}}
{{- define "trainyard.postgres.maxConnections" -}}
{{- add (mul .Values.mlflow.replicas .Values.mlflow.workers 41) 94 -}}
{{- end -}}

{{/* Secret with access-key and secret-key, of the embedded store or of yours. */}}
{{- define "trainyard.s3.secretName" -}}
{{- if .Values.objectstore.enabled -}}
{{- .Values.objectstore.existingSecret | default (include "trainyard.componentName" (dict "root" . "component" "objectstore")) -}}
{{- else -}}
{{- .Values.externalS3.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* URL of the S3 service; empty for AWS. */}}
{{- define "trainyard.s3.endpoint" -}}
{{- if .Values.objectstore.enabled -}}
{{- printf "http://%s.%s.svc:8333" (include "trainyard.componentName" (dict "root" . "component" "objectstore")) .Release.Namespace -}}
{{- else -}}
{{- .Values.externalS3.endpointUrl -}}
{{- end -}}
{{- end -}}

{{/* Bucket that holds the artifacts. */}}
{{- define "trainyard.s3.bucket" -}}
{{- ternary .Values.objectstore.bucket .Values.externalS3.bucket .Values.objectstore.enabled -}}
{{- end -}}
