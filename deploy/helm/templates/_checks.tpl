{{/*
Refuse the values, with words. `helm lint` only takes note of what `fail` says and goes on, so a template whose name is
the message, and which does not exist, makes an error of it there.
*/}}
{{- define "stream-proxy.refuse" -}}
{{- fail . -}}
{{- include . . -}}
{{- end -}}

{{/* What the schema cannot say: values that make no sense together. Each message says what to write instead. */}}
{{- define "stream-proxy.checks" -}}
{{- $v := .Values -}}
{{- range $name, $team := $v.teams -}}
{{- if not (hasKey (default dict $v.proxy.teams) $name) -}}
{{- include "stream-proxy.refuse" (printf "teams.%s has streams, but proxy.teams.%s is missing: it needs the team's hatchet and auth" $name $name) -}}
{{- end -}}
{{- if and $team.configMap $team.streams -}}
{{- include "stream-proxy.refuse" (printf "teams.%s has both configMap and streams: write one of them" $name) -}}
{{- end -}}
{{- if not (or $team.configMap $team.streams) -}}
{{- include "stream-proxy.refuse" (printf "teams.%s has neither configMap nor streams: write one of them" $name) -}}
{{- end -}}
{{- if and $team.key (not $team.configMap) -}}
{{- include "stream-proxy.refuse" (printf "teams.%s.key is a key of a ConfigMap: write teams.%s.configMap too" $name $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $team := $v.proxy.teams -}}
{{- if not (hasKey $v.teams $name) -}}
{{- include "stream-proxy.refuse" (printf "proxy.teams.%s is granted, but teams.%s is missing: it says where the team's streams are" $name $name) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "host" "port" "admin_port" -}}
{{- if hasKey (default dict $v.proxy.server) $key -}}
{{- include "stream-proxy.refuse" (printf "proxy.server.%s is set by the chart: remove it" $key) -}}
{{- end -}}
{{- end -}}
{{- $files := list -}}
{{- range $v.secrets -}}
{{- range $key, $file := .items -}}
{{- if has $file $files -}}
{{- include "stream-proxy.refuse" (printf "secrets: two keys become the file %s: give them different names" $file) -}}
{{- end -}}
{{- $files = append $files $file -}}
{{- end -}}
{{- end -}}
{{- range regexFindAll "\\$\\{file:/run/secrets/stream-proxy/[^}:?]+" (toYaml $v.proxy) -1 -}}
{{- $file := trimPrefix "${file:/run/secrets/stream-proxy/" . -}}
{{- if not (has $file $files) -}}
{{- include "stream-proxy.refuse" (printf "proxy names the file /run/secrets/stream-proxy/%s, but no item of secrets becomes it: add it there" $file) -}}
{{- end -}}
{{- end -}}
{{- if $v.autoscaling.enabled -}}
{{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) -}}
{{- include "stream-proxy.refuse" (printf "autoscaling.minReplicas (%d) is larger than autoscaling.maxReplicas (%d)" (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if not (or $v.autoscaling.clients $v.autoscaling.loopLag) -}}
{{- include "stream-proxy.refuse" "autoscaling.enabled needs autoscaling.clients or autoscaling.loopLag: without them nothing is measured" -}}
{{- end -}}
{{- end -}}
{{- if and $v.httpRoute.enabled (not $v.httpRoute.parentRefs) -}}
{{- include "stream-proxy.refuse" "httpRoute.enabled needs httpRoute.parentRefs: name the Gateway" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) -}}
{{- include "stream-proxy.refuse" "ingress.enabled needs ingress.hosts: name at least one host" -}}
{{- end -}}
{{- $grace := "20s" -}}
{{- with (default dict $v.proxy.server).drain -}}{{- $grace = default "20s" .grace -}}{{- end -}}
{{- $seconds := 0 -}}
{{- if regexMatch "^[0-9]+s$" $grace -}}{{- $seconds = int (trimSuffix "s" $grace) -}}
{{- else if regexMatch "^[0-9]+m$" $grace -}}{{- $seconds = mul 60 (int (trimSuffix "m" $grace)) -}}{{- end -}}
{{- $needed := add (int $v.preStopSeconds) $seconds 3 -}}
{{- if le (int $v.terminationGracePeriodSeconds) (int $needed) -}}
{{- include "stream-proxy.refuse" (printf "terminationGracePeriodSeconds (%d) must be more than %d: preStopSeconds, proxy.server.drain.grace and 3 seconds together" (int $v.terminationGracePeriodSeconds) (int $needed)) -}}
{{- end -}}
{{- if and $v.pdb.enabled (eq (int (include "stream-proxy.most" .)) 1) (has (toString $v.pdb.maxUnavailable) (list "0" "0%")) -}}
{{- include "stream-proxy.refuse" "pdb.maxUnavailable 0 with one replica: no node could ever be drained" -}}
{{- end -}}
{{- end -}}
