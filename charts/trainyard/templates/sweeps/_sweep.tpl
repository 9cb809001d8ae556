{{/*
A sweep as a Job: what `trainyard.training.spec` takes as "job" and "sweep", as YAML. Takes dict "root" $ "name" <name>
"entry" <entry of sweeps>.
*/}}
{{- define "trainyard.sweep.context" -}}
{{- $job := include "trainyard.training.job" (dict "root" .root "job" (omit .entry "sweep" "workers" "trialsPerWorker")) | fromYaml -}}
{{- $backend := include "trainyard.sweep.backend" .entry -}}
{{- /* A worker is a Job of one node; how many processes a trial has is for its program to say. */}}
{{- range $key, $value := dict "nodes" 1 "processesPerNode" 0 "args" list "command" (list "trainyard" "sweep" "run" "/sweep/sweep.yaml") -}}
{{- $_ := set $job $key $value -}}
{{- end -}}
{{- $workers := int (.entry.workers | default 1) -}}
{{- $completions := $workers -}}
{{- with int .entry.trialsPerWorker -}}
{{- $_ := set $job "command" (concat $job.command (list "--trials-per-worker" (toString .))) -}}
{{- $trials := $.entry.sweep.trials | default $.entry.sweep.run_cap | int -}}
{{- $completions = max $workers (div (add $trials (sub . 1)) .) | int -}}
{{- end -}}
{{- if and (eq $backend "wandb") (not (hasKey .entry "tracking")) (not (has "wandb" (splitList "," $job.tracking))) -}}
{{- $_ := set $job "tracking" (printf "%s,wandb" $job.tracking) -}}
{{- end -}}
{{- if and (eq $backend "wandb") (not (hasKey .entry "shipperResources")) -}}
{{- $_ := set $job "shipperResources" (merge (dict "limits" (dict "memory" "1Gi")) (deepCopy $job.shipperResources)) -}}
{{- end -}}
job:
  {{- toYaml $job | nindent 2 }}
sweep:
  parallelism: {{ $workers }}
  completions: {{ $completions }}
  configMap: {{ include "trainyard.sweep.configMap" . }}
  # Only the worker asks the database for trials: neither the shipper nor a trial needs to get at it.
  secrets: [{{ if eq $backend "optuna" }}{{ include "trainyard.optuna.secretName" .root }}{{ end }}]
{{- end -}}

{{/* Who proposes the parameters. Takes an entry of sweeps. */}}
{{- define "trainyard.sweep.backend" -}}
{{- .sweep.backend | default "optuna" -}}
{{- end -}}

{{/* The sweep file. Takes what `trainyard.sweep.context` takes. */}}
{{- define "trainyard.sweep.file" -}}
{{- merge (dict "name" (.entry.sweep.name | default .name)) .entry.sweep | toYaml -}}
{{- end -}}

{{/* Name of the ConfigMap with it: another one for each content, so that the Job, whose spec names it, is another one too. */}}
{{- define "trainyard.sweep.configMap" -}}
{{- printf "%s-%s" (include "trainyard.training.prefix" .) (include "trainyard.sweep.file" . | sha256sum | trunc 8) -}}
{{- end -}}
