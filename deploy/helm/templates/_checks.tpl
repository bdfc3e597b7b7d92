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
{{- include "stream-proxy.forms" . -}}
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
{{- range $name, $team := $v.proxy.teams -}}
{{- with ($team.hatchet).token -}}
{{- if not (contains "${" .) -}}
{{- include "stream-proxy.refuse" (printf "proxy.teams.%s.hatchet.token would stand in a ConfigMap: write ${file:/run/secrets/stream-proxy/NAME}, and in secrets where NAME comes from" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with ($v.proxy.server).log -}}
{{- if regexMatch "://.*:[^@]+@" (regexReplaceAll "\\$\\{[^}]*\\}" . "") -}}
{{- include "stream-proxy.refuse" "the password in proxy.server.log would stand in a ConfigMap: write ${file:/run/secrets/stream-proxy/NAME} there, and in secrets where NAME comes from" -}}
{{- end -}}
{{- end -}}
{{- with ($v.proxy.server).log_encrypt -}}
{{- if not (contains "${" .) -}}
{{- include "stream-proxy.refuse" "proxy.server.log_encrypt would stand in a ConfigMap: write ${file:/run/secrets/stream-proxy/NAME}, and in secrets where NAME comes from" -}}
{{- end -}}
{{- end -}}
{{- with (($v.proxy.server).console).token -}}
{{- if not (contains "${" .) -}}
{{- include "stream-proxy.refuse" "proxy.server.console.token would stand in a ConfigMap: write ${file:/run/secrets/stream-proxy/NAME}, and in secrets where NAME comes from" -}}
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
{{- $amount := int (regexFind "^[0-9]+" $grace) -}}
{{- if hasSuffix "ms" $grace -}}{{- $seconds = div (add $amount 999) 1000 -}}
{{- else if hasSuffix "s" $grace -}}{{- $seconds = $amount -}}
{{- else if hasSuffix "m" $grace -}}{{- $seconds = mul 60 $amount -}}
{{- else if hasSuffix "h" $grace -}}{{- $seconds = mul 3600 $amount -}}{{- end -}}
{{- $needed := add (int $v.preStopSeconds) $seconds 3 -}}
{{- if le (int $v.terminationGracePeriodSeconds) (int $needed) -}}
{{- include "stream-proxy.refuse" (printf "terminationGracePeriodSeconds (%d) must be more than %d: preStopSeconds, proxy.server.drain.grace and 3 seconds together" (int $v.terminationGracePeriodSeconds) (int $needed)) -}}
{{- end -}}
{{- $names := list -}}
{{- range $v.env -}}
{{- if has .name $names -}}
{{- include "stream-proxy.refuse" (printf "env: %s is set twice: remove one" .name) -}}
{{- end -}}
{{- if has .name (list "STREAM_PROXY_CONFIG" "STREAM_PROXY_HOST" "STREAM_PROXY_PORT") -}}
{{- include "stream-proxy.refuse" (printf "env: %s is set by the chart: remove it" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range $key := keys $v.podLabels -}}
{{- if has $key (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component") -}}
{{- include "stream-proxy.refuse" (printf "podLabels: %s is set by the chart, its Services select pods by it: remove it" $key) -}}
{{- end -}}
{{- end -}}
{{- range $where := list (list "resources" $v.resources) (list "front.resources" $v.front.resources) -}}
{{- $asked := default dict (last $where).requests -}}
{{- $most := default dict (last $where).limits -}}
{{- range $key := list "cpu" "memory" -}}
{{- if and (hasKey $asked $key) (hasKey $most $key) -}}
{{- if gt (float64 (include "stream-proxy.amount" (get $asked $key))) (float64 (include "stream-proxy.amount" (get $most $key))) -}}
{{- include "stream-proxy.refuse" (printf "%s.requests.%s (%v) is larger than %s.limits.%s (%v)" (first $where) $key (get $asked $key) (first $where) $key (get $most $key)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with ($v.resources.limits).memory -}}
{{- if lt (float64 (include "stream-proxy.amount" .)) 1e8 -}}
{{- include "stream-proxy.refuse" (printf "resources.limits.memory (%v) is too little: the proxy needs 57 MB when idle, and the memory of the teams' limits" .) -}}
{{- end -}}
{{- end -}}
{{- if $v.ingress.enabled -}}
{{- range $v.ingress.tls -}}
{{- range .hosts -}}
{{- if not (or (has . $v.ingress.hosts) (hasPrefix "*." .)) -}}
{{- include "stream-proxy.refuse" (printf "ingress.tls names the host %s, but ingress.hosts does not" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $most := int (include "stream-proxy.most" .) -}}
{{- if and $v.pdb.enabled (gt $most 1) (not (hasSuffix "%" (toString $v.pdb.maxUnavailable))) -}}
{{- if ge (int $v.pdb.maxUnavailable) $most -}}
{{- include "stream-proxy.refuse" (printf "pdb.maxUnavailable (%d) lets all %d replicas stop at once: it must be less" (int $v.pdb.maxUnavailable) $most) -}}
{{- end -}}
{{- end -}}
{{- if and $v.pdb.enabled (eq (int (include "stream-proxy.most" .)) 1) (has (toString $v.pdb.maxUnavailable) (list "0" "0%")) -}}
{{- include "stream-proxy.refuse" "pdb.maxUnavailable 0 with one replica: no node could ever be drained" -}}
{{- end -}}
{{- end -}}

{{/* A quantity of Kubernetes as a number: 500m is 0.5, 256Mi is 268435456. */}}
{{- define "stream-proxy.amount" -}}
{{- if kindIs "string" . -}}
{{- $units := dict "m" 0.001 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- mulf (float64 $number) (float64 (default 1 (get $units (trimPrefix $number .)))) -}}
{{- else -}}{{- float64 . -}}{{- end -}}
{{- end -}}
