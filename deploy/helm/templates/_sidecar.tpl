{{/*
The proxy as a sidecar of your own pod. Make this chart a dependency of yours, with `standalone: false` among its
values, so that it brings these templates and no objects. Then in your Deployment:

    spec:
      enableServiceLinks: false
      terminationGracePeriodSeconds: 45
      initContainers:
        {{- include "stream-proxy.sidecar" (dict "configMap" "shop-streams" "secret" "shop-hatchet") | nindent 8 }}
      volumes:
        {{- include "stream-proxy.sidecarVolumes" (dict "configMap" "shop-streams") | nindent 8 }}

configMap: has the key streams.yaml, with `server: {host: 0.0.0.0, admin_port: 9090}`.
secret, key: the Secret with HATCHET_CLIENT_TOKEN and its key (`token` unless set).
image: repository, tag, digest; preflight: false leaves out `check` and `test`, which run before the pod starts;
env, resources, preStopSeconds: as in values.yaml.
*/}}
{{- define "stream-proxy.sidecar" -}}
{{- $image := include "stream-proxy.image" (dict "image" (merge (default dict .image) (dict "repository" "hatchet-stream-proxy" "tag" "" "digest" "")) "appVersion" "0.1.0") -}}
{{- if not .configMap }}{{ include "stream-proxy.refuse" "stream-proxy.sidecar needs configMap: the ConfigMap with streams.yaml" }}{{ end -}}
{{- if not .secret }}{{ include "stream-proxy.refuse" "stream-proxy.sidecar needs secret: the Secret with Hatchet's token" }}{{ end -}}
{{- $own := . -}}
{{- if or (not (hasKey . "preflight")) .preflight }}
{{- range $command := list "check" "test" }}
- name: stream-proxy-{{ $command }}
  image: {{ $image }}
  args: [{{ $command }}, /etc/stream-proxy/streams.yaml]
  {{- include "stream-proxy.sidecarContainer" $own | nindent 2 }}
{{- end }}
{{- end }}
- name: stream-proxy
  restartPolicy: Always  # a sidecar, from Kubernetes 1.29 on: it starts before the application and stops after it
  image: {{ $image }}
  args: [serve, --config, /etc/stream-proxy/streams.yaml]
  ports:
    - {name: streams, containerPort: 8080}
    - {name: admin, containerPort: 9090}
  {{- include "stream-proxy.probes" . | nindent 2 }}
  lifecycle:
    preStop:
      sleep: {seconds: {{ default 5 .preStopSeconds }}}
  {{- include "stream-proxy.sidecarContainer" . | nindent 2 }}
{{- end -}}

{{- define "stream-proxy.sidecarContainer" -}}
env:
  - name: HATCHET_CLIENT_TOKEN
    valueFrom:
      secretKeyRef: {name: {{ .secret }}, key: {{ default "token" .key }}}
  {{- with .env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
resources:
  {{- toYaml (default (dict "requests" (dict "cpu" "100m" "memory" "128Mi") "limits" (dict "memory" "512Mi")) .resources) | nindent 2 }}
securityContext:
  {{- include "stream-proxy.security" . | nindent 2 }}
volumeMounts:
  - {name: stream-proxy, mountPath: /etc/stream-proxy, readOnly: true}
{{- end -}}

{{- define "stream-proxy.sidecarVolumes" -}}
- name: stream-proxy
  configMap: {name: {{ .configMap }}}
{{- end -}}
