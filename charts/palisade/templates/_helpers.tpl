{{/* Labels of every object; takes a dict of the root context and the component's name. */}}
{{- define "palisade.labels" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/part-of: palisade
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "palisade.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The full host name of the global proxy's Service. */}}
{{- define "palisade.globalProxyHost" -}}
global-proxy.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* The container's part of the restricted Pod Security Standard. */}}
{{- define "palisade.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The pod's part of the restricted Pod Security Standard. */}}
{{- define "palisade.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* One access logger that streams to the operator; takes a dict of root, protocol (Http or Tcp) and name. */}}
{{- define "palisade.accessLog" -}}
- name: envoy.access_loggers.{{ lower .protocol }}_grpc
  typed_config:
    '@type': type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.{{ .protocol }}GrpcAccessLogConfig
    common_config:
      log_name: {{ .name }}
      transport_api_version: V3
      buffer_flush_interval: {{ .root.Values.accessLog.flushInterval }}
      {{- if eq .protocol "Tcp" }}
      # The log's own field for it is set only where TLS ends.
      custom_tags:
      - tag: palisade.server_name
        value: "%REQUESTED_SERVER_NAME%"
      {{- end }}
      grpc_service:
        envoy_grpc:
          cluster_name: palisade-access-log
    {{- if eq .protocol "Http" }}
    # Tells a gRPC call that was refused from one that was let in: both have the HTTP status 200.
    additional_response_headers_to_log: [grpc-status]
    {{- end }}
{{- end }}

{{/* A secret that the proxy's own agent serves over SDS; takes the secret's name. */}}
{{- define "palisade.sdsSecret" -}}
name: {{ . }}
sds_config:
  resource_api_version: V3
  initial_fetch_timeout: 0s
  api_config_source:
    api_type: GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services:
    - envoy_grpc:
        cluster_name: sds-grpc
{{- end }}

{{/* The operator's configuration file. */}}
{{- define "palisade.config" -}}
{{- $fence := pick .Values.fence "mode" "sidecarPolicy" "serviceLabelKey" "stableHost" "domainAliases" "maxDeclaredHosts" "retention" "maxHosts" "learnNamespaces" -}}
{{- $fence = set $fence "systemNamespaces" (append .Values.fence.systemNamespaces .Release.Namespace | uniq) -}}
{{- $asked := .Values.prometheus -}}
{{- $prometheus := pick $asked "url" "interval" "timeout" "window" "history" "heartbeat" "headers" "queries" -}}
{{- if $asked.bearerToken.secret -}}
{{- $prometheus = set $prometheus "bearerTokenFile" "/etc/palisade-prometheus/token" -}}
{{- end -}}
{{- if $asked.ca.configMap -}}
{{- $prometheus = set $prometheus "caFile" "/etc/palisade-prometheus/ca.crt" -}}
{{- end -}}
{{- $limiter := pick .Values.limiter "enabled" "metrics" "proxyStatus" -}}
{{- if and .Values.limiter.enabled .Values.limiter.global.enabled -}}
{{- $host := printf "palisade-rate-limit.%s.svc.%s" .Release.Namespace .Values.clusterDomain -}}
{{- $limiter = set $limiter "rateLimitService" (dict "host" $host "port" 18092 "timeout" .Values.limiter.global.timeout) -}}
{{- $fence = set $fence "stableHost" (append .Values.fence.stableHost $host | uniq) -}}
{{- end -}}
{{- $istio := pick .Values.istio "revisions" "strictRevision" -}}
{{ dict "fence" $fence "autoFence" .Values.autoFence "external" (pick .Values.external "serviceEntries" "hosts" "maxPerNamespace") "prometheus" $prometheus "proxyMetrics" .Values.proxyMetrics "limiter" $limiter "istio" $istio | toPrettyJson }}
{{- end }}

{{/* What the routes of a dispatch have in common. The name tells the operator that there is nothing to learn. */}}
{{- define "palisade.dispatch" -}}
name: palisade-dispatch/{{ .name }}
route:
  cluster: {{ .cluster | quote }}
  timeout: 0s
{{- end }}

{{/* What the authority of a dispatched request looks like: a host of its domains, with or without a port, or its own expression. */}}
{{- define "palisade.dispatched" -}}
{{- $all := list }}
{{- range .domains }}
{{- $all = append $all (regexQuoteMeta . | replace "\\*" ".+") }}
{{- end }}
{{- $domains := ternary (printf "(?i:(?:%s)(?::[0-9]+)?)" (join "|" $all)) "" (not (empty $all)) }}
{{- list $domains .domainRegex | compact | join "|" }}
{{- end }}

{{/* Fails on what Envoy would refuse, and with it all routes of a port. Takes the list of dispatches. */}}
{{- define "palisade.checkDispatches" -}}
{{- $names := dict }}
{{- range $dispatch := . }}
{{- if hasKey $names .name }}
{{- fail (printf "globalProxy.dispatches: two are called %s; give each its own name" .name) }}
{{- end }}
{{- $_ := set $names .name true }}
{{- with .domainRegex }}
{{- $_ := mustRegexMatch . "" }}
{{- end }}
{{- end }}
{{- end }}
