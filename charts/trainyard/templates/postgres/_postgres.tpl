{{/* Changes with the passwords that the chart generated. */}}
{{- define "trainyard.postgres.checksum" -}}
{{- $parts := list (include "trainyard.postgres.secretName" .) -}}
{{- if include "trainyard.postgres.generated" . -}}
{{- range $role := list "mlflow" "mlflow-auth" "optuna" -}}
{{- $parts = append $parts (include "trainyard.postgres.password" (dict "root" $ "role" $role)) -}}
{{- end -}}
{{- end -}}
{{- join "\n" $parts | sha256sum -}}
{{- end -}}

{{/* By TCP, which opens only when the roles and databases exist. */}}
{{- define "trainyard.postgres.probe" -}}
exec: {command: [pg_isready, --host=127.0.0.1, --port=5432]}
timeoutSeconds: 5
{{- end -}}
