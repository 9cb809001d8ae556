{{/* What no sweep can work with. Takes dict "root" $ "name" <name> "entry" <entry of sweeps>. */}}
{{- define "trainyard.refuse.sweep" -}}
{{- $path := printf "sweeps.%s" .name -}}
{{- $context := include "trainyard.sweep.context" . | fromYaml -}}
{{- include "trainyard.refuse.job" (merge (dict "path" $path "name" .name) $context) -}}
{{- if hasKey .root.Values.trainingJobs .name -}}
{{- fail (printf "%s and trainingJobs.%s: both would use the volume of that name. Give the sweep another name" $path .name) -}}
{{- end -}}
{{- with get $context.job.env "TRAINYARD_OPTUNA_URL" -}}
{{- fail (printf "%s.env.TRAINYARD_OPTUNA_URL: anyone who may see the Job could read it, and every trial would get it. Put it into a Secret and name that in optuna.existingSecret" $path) -}}
{{- end -}}
{{- include "trainyard.refuse.sweep.parameters" (dict "path" (printf "%s.sweep.parameters" $path) "parameters" .entry.sweep.parameters) -}}
{{- if and (int .entry.trialsPerWorker) (not (or .entry.sweep.trials .entry.sweep.run_cap)) -}}
{{- fail (printf "%s.trialsPerWorker=%d and %s.sweep.trials is empty: nobody knows how many workers that makes. Say how many trials there are, or remove trialsPerWorker" $path (int .entry.trialsPerWorker) $path) -}}
{{- end -}}
{{- if gt (int $context.sweep.completions) 10000 -}}
{{- fail (printf "%s makes %d workers one after the other: the number of the last one would not fit into its pod's host name. Raise %s.trialsPerWorker until there are 10000 at most" $path (int $context.sweep.completions) $path) -}}
{{- end -}}
{{- if $context.job.enabled -}}
{{- include (printf "trainyard.refuse.sweep.%s" (include "trainyard.sweep.backend" .entry)) (merge (dict "path" $path "root" .root) $context) -}}
{{- end -}}
{{- end -}}

{{/* Takes dict "root" $ "path" <where the sweep is said>. */}}
{{- define "trainyard.refuse.sweep.optuna" -}}
{{- if not (include "trainyard.optuna.secretName" .root) -}}
{{- fail (printf "%s needs Optuna's database and optuna.existingSecret is empty: the chart makes that Secret only where it makes the embedded Postgres' passwords. Name a Secret with key TRAINYARD_OPTUNA_URL in optuna.existingSecret" .path) -}}
{{- end -}}
{{- end -}}

{{/* Takes dict "root" $ "path" <where the sweep is said> "job" <its Job>. */}}
{{- define "trainyard.refuse.sweep.wandb" -}}
{{- if not .root.Values.client.wandbBaseUrl -}}
{{- fail (printf "%s.sweep.backend=wandb and client.wandbBaseUrl is empty: the sweep is made at a Weights & Biases server, and it must be said at which. Set client.wandbBaseUrl, for example https://api.wandb.ai, or use backend optuna" .path) -}}
{{- end -}}
{{- if not .job.envFromSecrets -}}
{{- fail (printf "%s.sweep.backend=wandb and %s.envFromSecrets is empty: Weights & Biases would refuse every worker. Name a Secret with key WANDB_API_KEY in %s.envFromSecrets" .path .path .path) -}}
{{- end -}}
{{- range $tracker := list "mlflow" "wandb" -}}
  {{- if not (has $tracker (splitList "," $.job.tracking)) -}}
  {{- fail (printf "%s.sweep.backend=wandb and %s.tracking=%s: W&B knows a trial by its run there, and workers find each other and report in MLflow. Use tracking mlflow,wandb" $.path $.path $.job.tracking) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* Ranges that no longer say what they are. Takes dict "path" <where they are said> "parameters" <by name>. */}}
{{- define "trainyard.refuse.sweep.parameters" -}}
{{- range $name, $parameter := .parameters -}}
  {{- $path := printf "%s.%s" $.path $name -}}
  {{- $bounds := printf "%s %s" (toJson $parameter.min) (toJson $parameter.max) -}}
  {{- if and (regexMatch "^-?[0-9]+ -?[0-9]+$" $bounds) (not $parameter.distribution) -}}
  {{- fail (printf "%s: min %v and max %v may mean whole numbers or any, since Helm reads 1.0 as 1. Add distribution: int_uniform or distribution: uniform" $path $parameter.min $parameter.max) -}}
  {{- end -}}
  {{- with $parameter.parameters -}}
  {{- include "trainyard.refuse.sweep.parameters" (dict "path" (printf "%s.parameters" $path) "parameters" .) -}}
  {{- end -}}
{{- end -}}
{{- end -}}
