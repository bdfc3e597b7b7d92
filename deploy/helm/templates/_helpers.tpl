{{- define "stream-proxy.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change: selectors use them. */}}
{{- define "stream-proxy.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 50 }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "stream-proxy.labels" -}}
{{ include "stream-proxy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The image, for the chart's own values and for those of a sidecar. */}}
{{- define "stream-proxy.image" -}}
{{- if .image.digest -}}
{{ printf "%s@%s" .image.repository .image.digest }}
{{- else -}}
{{ printf "%s:%s" .image.repository (default .appVersion .image.tag) }}
{{- end -}}
{{- end -}}

{{- define "stream-proxy.security" -}}
runAsNonRoot: true
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "stream-proxy.probes" -}}
startupProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 1
  failureThreshold: 30
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* The files: proxy.yaml and the teams that are written in the values. */}}
{{- define "stream-proxy.files" -}}
{{- $server := merge (dict "host" "0.0.0.0" "port" 8080 "admin_port" 9090) (default dict .Values.proxy.server) -}}
{{- $proxy := merge (dict "version" 1 "server" $server) .Values.proxy -}}
proxy.yaml: |
  {{- toYaml $proxy | nindent 2 }}
{{- range $name, $team := .Values.teams }}
{{- if not $team.configMap }}
{{ $name }}.yaml: |
  {{- toYaml (merge (dict "version" 1) $team) | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The volumes of a pod that reads these files from the ConfigMap `.files`. */}}
{{- define "stream-proxy.volumes" -}}
- name: config
  projected:
    sources:
      - configMap:
          name: {{ .files }}
          items:
            - {key: proxy.yaml, path: proxy.yaml}
            {{- range $name, $team := .root.Values.teams }}
            {{- if not $team.configMap }}
            - {key: {{ $name }}.yaml, path: teams/{{ $name }}.yaml}
            {{- end }}
            {{- end }}
      {{- range $name, $team := .root.Values.teams }}
      {{- if $team.configMap }}
      - configMap:
          name: {{ $team.configMap }}
          items:
            - {key: {{ default (printf "%s.yaml" $name) $team.key }}, path: teams/{{ $name }}.yaml}
      {{- end }}
      {{- end }}
{{- if .root.Values.secrets }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range .root.Values.secrets }}
      - secret:
          name: {{ .name }}
          items:
            {{- range $key, $file := .items }}
            - {key: {{ $key }}, path: {{ $file }}}
            {{- end }}
      {{- end }}
{{- end }}
{{- end -}}

{{- define "stream-proxy.mounts" -}}
- {name: config, mountPath: /etc/stream-proxy, readOnly: true}
{{- if .Values.secrets }}
- {name: secrets, mountPath: /run/secrets/stream-proxy, readOnly: true}
{{- end }}
{{- end -}}

{{- define "stream-proxy.env" -}}
{{- with .Values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "stream-proxy.scheduling" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* How many replicas there may be; nginx knows each by its name. */}}
{{- define "stream-proxy.most" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.maxReplicas }}{{ else }}{{ .Values.replicas }}{{ end -}}
{{- end -}}

{{/* The ports of the shared log, separated by commas: those in proxy.server.log, else Redis' own. Sentinels name servers too. */}}
{{- define "stream-proxy.logPorts" -}}
{{- $log := default "memory" (default dict .Values.proxy.server).log -}}
{{- if contains "://" $log -}}
{{- $plain := regexReplaceAll "\\$\\{[^}]*\\}" $log "" -}}
{{- $hosts := regexReplaceAll "/.*$" (regexReplaceAll "^.*(://|@)" $plain "") "" -}}
{{- $sentinel := contains "+sentinel:" $log -}}
{{- $ports := ternary (list "6379") list $sentinel -}}
{{- range splitList "," $hosts -}}
{{- $port := trimPrefix ":" (regexFind ":[0-9]+$" .) -}}
{{- $ports = append $ports (default (ternary "26379" "6379" $sentinel) $port) -}}
{{- end -}}
{{- uniq $ports | join "," -}}
{{- end -}}
{{- end -}}
