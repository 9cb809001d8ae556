{{/*
FULL, the prefix of every object's name: the release name, or <release>-trainyard if that does not say "trainyard" already.
Cut at 40: "-objectstore" (12) makes 52, and a StatefulSet's pods carry its name and an 11 character hash as a label (63 at most).
A cut name ends in a hash of the whole, so two long releases never share objects.
*/}}
{{- define "trainyard.fullname" -}}
{{- $name := .Release.Name | replace "." "-" -}}
{{- if not (contains .Chart.Name $name) -}}{{- $name = printf "%s-%s" $name .Chart.Name -}}{{- end -}}
{{- include "trainyard.cut" (dict "name" $name "length" 40) -}}
{{- end -}}

{{/* A name of at most .length characters: as it is if it fits, else its beginning and a hash of the whole. */}}
{{- define "trainyard.cut" -}}
{{- $length := int .length -}}
{{- if le (len .name) $length -}}
{{- .name -}}
{{- else -}}
{{- printf "%s-%s" (trunc (int (sub $length 9)) .name | trimSuffix "-") (sha256sum .name | trunc 8) -}}
{{- end -}}
{{- end -}}

{{/* Name of a component's objects. Takes dict "root" $ "component" "mlflow". */}}
{{- define "trainyard.componentName" -}}
{{- printf "%s-%s" (include "trainyard.fullname" .root) .component -}}
{{- end -}}

{{/* The name that the ConfigMap and the Secret of the client contract share. */}}
{{- define "trainyard.client.name" -}}
{{- include "trainyard.componentName" (dict "root" . "component" "client") -}}
{{- end -}}

{{/* What selects a component's pods; immutable once installed. Takes dict "root" $ "component" "mlflow". */}}
{{- define "trainyard.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of every object. Takes dict "root" $ "component" "mlflow". */}}
{{- define "trainyard.labels" -}}
{{ include "trainyard.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: {{ .root.Chart.Name }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}
