{{/*
The forms of single values. JSON Schema could only say which regular expression a value does not match; here each form
has words. Which keys there are and which types they have is in values.schema.json.
*/}}

{{/* Refuse a value that has not the form: a list of its path, the value, the regular expression, and the words. */}}
{{- define "stream-proxy.form" -}}
{{- if not (regexMatch (index . 2) (toString (index . 1))) -}}
{{- include "stream-proxy.refuse" (printf "%s is %q: write %s" (index . 0) (toString (index . 1)) (index . 3)) -}}
{{- end -}}
{{- end -}}

{{- define "stream-proxy.nameForm" -}}
{{- include "stream-proxy.form" (list (first .) (last .) "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" "a name of Kubernetes: lower case letters, digits, - and ." ) -}}
{{- end -}}

{{- define "stream-proxy.hostForm" -}}
{{- include "stream-proxy.form" (list (first .) (last .) "^(\\*\\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" "a host name in lower case, without scheme, port or path") -}}
{{- end -}}

{{- define "stream-proxy.labelForm" -}}
{{- $path := first . -}}
{{- range $key, $value := last . -}}
{{- include "stream-proxy.form" (list (printf "a key of %s" $path) $key "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$" "letters, digits, -, _ and ., with a domain and / before it or not") -}}
{{- include "stream-proxy.form" (list (printf "%s.%s" $path $key) $value "^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$" "the value of a label: at most 63 letters, digits, -, _ and .") -}}
{{- end -}}
{{- end -}}

{{- define "stream-proxy.forms" -}}
{{- $v := .Values -}}
{{- $name := "[a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+|[a-z0-9]+([._-]+[a-z0-9]+)*" -}}
{{- $tag := "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}" -}}
{{- include "stream-proxy.form" (list "image.repository" $v.image.repository (printf "^(%s)$" $name) "an image without its tag, such as registry.example.com/platform/hatchet-stream-proxy") -}}
{{- include "stream-proxy.form" (list "image.tag" $v.image.tag (printf "^(%s)?$" $tag) "a tag, or nothing for the chart's own version") -}}
{{- include "stream-proxy.form" (list "image.digest" $v.image.digest "^(sha256:[0-9a-f]{64})?$" "sha256: and 64 hexadecimal digits, or nothing") -}}
{{- include "stream-proxy.form" (list "front.image" $v.front.image (printf "^(%s)(:%s)?(@sha256:[0-9a-f]{64})?$" $name $tag) "an image with its tag or digest") -}}
{{- range $v.image.pullSecrets }}{{- include "stream-proxy.nameForm" (list "image.pullSecrets" .) -}}{{- end -}}
{{- range $key := list "nameOverride" "fullnameOverride" -}}
{{- include "stream-proxy.form" (list $key (get $v $key) "^([a-z]([-a-z0-9]{0,48}[a-z0-9])?)?$" "at most 50 lower case letters, digits and -, a letter first") -}}
{{- end -}}
{{- range $file, $teams := dict "teams" $v.teams "proxy.teams" $v.proxy.teams -}}
{{- range $team := keys (default dict $teams) -}}
{{- include "stream-proxy.form" (list (printf "a team in %s" $file) $team "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" "a name of lower case letters, digits and -") -}}
{{- end -}}
{{- end -}}
{{- range $team, $own := $v.teams -}}
{{- with $own.configMap }}{{- include "stream-proxy.nameForm" (list (printf "teams.%s.configMap" $team) .) -}}{{- end -}}
{{- with $own.key }}{{- include "stream-proxy.form" (list (printf "teams.%s.key" $team) . "^[-._a-zA-Z0-9]+$" "a key of the ConfigMap") -}}{{- end -}}
{{- end -}}
{{- range $v.secrets -}}
{{- include "stream-proxy.nameForm" (list "secrets[].name" .name) -}}
{{- range $key, $file := .items -}}
{{- include "stream-proxy.form" (list "a key of secrets[].items" $key "^[-._a-zA-Z0-9]+$" "a key of the Secret") -}}
{{- include "stream-proxy.form" (list (printf "secrets[].items.%s" $key) $file "^[A-Za-z0-9_-][A-Za-z0-9._-]*$" "the name of a file, without a folder") -}}
{{- end -}}
{{- end -}}
{{- range $v.env }}{{- include "stream-proxy.form" (list "env[].name" .name "^[-._a-zA-Z][-._a-zA-Z0-9]*$" "the name of a variable") -}}{{- end -}}
{{- range $source := $v.envFrom -}}
{{- range $key := list "configMapRef" "secretRef" -}}
{{- with get $source $key }}{{- include "stream-proxy.nameForm" (list (printf "envFrom[].%s.name" $key) .name) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- range $v.extraArgs -}}
{{- include "stream-proxy.form" (list "extraArgs" . "^([^-].*|--(host|workers)(=.+)?)$" "--workers or --host and its value: the chart sets --config and the ports, and there are no other options") -}}
{{- end -}}
{{- range $v.ingress.hosts }}{{- include "stream-proxy.hostForm" (list "ingress.hosts" .) -}}{{- end -}}
{{- range $v.ingress.tls -}}
{{- range .hosts }}{{- include "stream-proxy.hostForm" (list "ingress.tls[].hosts" .) -}}{{- end -}}
{{- with .secretName }}{{- include "stream-proxy.nameForm" (list "ingress.tls[].secretName" .) -}}{{- end -}}
{{- end -}}
{{- with $v.ingress.className }}{{- include "stream-proxy.nameForm" (list "ingress.className" .) -}}{{- end -}}
{{- range $v.httpRoute.hostnames }}{{- include "stream-proxy.hostForm" (list "httpRoute.hostnames" .) -}}{{- end -}}
{{- range $parent := $v.httpRoute.parentRefs -}}
{{- range $key := list "name" "namespace" "sectionName" -}}
{{- with get $parent $key }}{{- include "stream-proxy.nameForm" (list (printf "httpRoute.parentRefs[].%s" $key) .) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- include "stream-proxy.form" (list "front.resolver" $v.front.resolver "^(\\[[0-9a-f:]+\\]|[a-z0-9]([-a-z0-9.]*[a-z0-9])?)(:[0-9]+)?$" "the name or address of the cluster's name server") -}}
{{- include "stream-proxy.form" (list "front.clusterDomain" $v.front.clusterDomain "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$" "the domain of the cluster, such as cluster.local") -}}
{{- with $v.priorityClassName }}{{- include "stream-proxy.nameForm" (list "priorityClassName" .) -}}{{- end -}}
{{- include "stream-proxy.nameForm" (list "networkPolicy.monitoringNamespace" $v.networkPolicy.monitoringNamespace) -}}
{{- include "stream-proxy.form" (list "pdb.maxUnavailable" $v.pdb.maxUnavailable "^([0-9]+|[0-9]{1,2}%)$" "a number, or a percentage below 100") -}}
{{- include "stream-proxy.form" (list "serviceMonitor.interval" $v.serviceMonitor.interval "^([1-9][0-9]*h)?([1-9][0-9]*m)?([1-9][0-9]*s)?([1-9][0-9]*ms)?$" "a duration, such as 30s") -}}
{{- include "stream-proxy.form" (list "serviceMonitor.interval" $v.serviceMonitor.interval "." "a duration, such as 30s") -}}
{{- include "stream-proxy.form" (list "prometheusRule.runbookUrl" $v.prometheusRule.runbookUrl "^https?://\\S+$" "a URL, such as https://wiki.example.com/streams") -}}
{{- $number := "([0-9]*[1-9][0-9]*(\\.[0-9]+)?|[0-9]+\\.[0-9]*[1-9][0-9]*)" -}}
{{- include "stream-proxy.form" (list "autoscaling.loopLag" $v.autoscaling.loopLag (printf "^(%sm?)?$" $number) "seconds as a quantity, such as 50m, or nothing") -}}
{{- range $path, $resources := dict "resources" $v.resources "front.resources" $v.front.resources -}}
{{- range $kind := list "requests" "limits" -}}
{{- $amounts := default dict (get $resources $kind) -}}
{{- with $amounts.memory }}{{- if kindIs "string" . }}{{- include "stream-proxy.form" (list (printf "%s.%s.memory" $path $kind) . (printf "^%s(k|M|G|T|Ki|Mi|Gi|Ti)?$" $number) "a size, such as 256Mi") -}}{{- end }}{{- end -}}
{{- with $amounts.cpu }}{{- if kindIs "string" . }}{{- include "stream-proxy.form" (list (printf "%s.%s.cpu" $path $kind) . (printf "^%sm?$" $number) "processors, such as 500m or 2") -}}{{- end }}{{- end -}}
{{- end -}}
{{- end -}}
{{- range $path, $labels := dict "podLabels" $v.podLabels "nodeSelector" $v.nodeSelector "serviceMonitor.labels" $v.serviceMonitor.labels "prometheusRule.labels" $v.prometheusRule.labels "dashboard.labels" $v.dashboard.labels -}}
{{- include "stream-proxy.labelForm" (list $path $labels) -}}
{{- end -}}
{{- end -}}
