{{/* What all names begin with: the release, with "kaos" in it. */}}
{{- define "kaos.base" -}}
{{- $name := ternary .Release.Name (printf "%s-kaos" .Release.Name) (contains "kaos" .Release.Name) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "kaos.operator" -}}{{ include "kaos.base" . }}-operator{{- end }}
{{- define "kaos.nats" -}}{{ include "kaos.base" . }}-nats{{- end }}

{{- define "kaos.operatorSelector" -}}
app.kubernetes.io/name: kaos-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kaos.natsSelector" -}}
app.kubernetes.io/name: kaos-nats
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kaos.releaseLabels" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Of pods: nothing in them changes with a version of the chart, or the broker would restart with each. */}}
{{- define "kaos.operatorPodLabels" -}}
{{ include "kaos.operatorSelector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: kaos
{{- end }}

{{- define "kaos.natsPodLabels" -}}
{{ include "kaos.natsSelector" . }}
app.kubernetes.io/component: broker
app.kubernetes.io/part-of: kaos
{{- end }}

{{- define "kaos.operatorLabels" -}}
{{ include "kaos.operatorPodLabels" . }}
{{ include "kaos.releaseLabels" . }}
{{- end }}

{{- define "kaos.natsLabels" -}}
{{ include "kaos.natsPodLabels" . }}
{{ include "kaos.releaseLabels" . }}
{{- end }}

{{- define "kaos.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "kaos.operator" .) }}
{{- else -}}
{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end }}

{{- define "kaos.image" -}}
{{- $image := .Values.controllerManager.manager.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "kaos.natsServers" -}}
{{- ternary 1 3 (eq .Values.nats.durability "OneServer") -}}
{{- end }}

{{- define "kaos.streamReplicas" -}}
{{- if .Values.nats.enabled }}{{ include "kaos.natsServers" . }}{{ else }}{{ .Values.broker.streamReplicas }}{{ end -}}
{{- end }}

{{- define "kaos.brokerUrl" -}}
{{- if .Values.nats.enabled -}}
nats://{{ include "kaos.nats" . }}.{{ .Release.Namespace }}.svc.{{ .Values.kubernetesClusterDomain }}:4222
{{- else -}}
{{ .Values.broker.url }}
{{- end -}}
{{- end }}

{{/* Who the operator is to the broker: its own credentials, else those of everybody. */}}
{{- define "kaos.operatorCredentials" -}}
{{- ternary .Values.broker.operatorCredentials .Values.broker.credentials (ne .Values.broker.operatorCredentials.secretName "") | toYaml -}}
{{- end }}

{{/* Combinations of values that a schema cannot judge. */}}
{{- define "kaos.check" -}}
{{- if .Values.gatewayAPI.enabled -}}
{{- fail "gatewayAPI.enabled: routes of the Gateway API are not made yet; set it to false and route to the Services of agents yourself" -}}
{{- end -}}
{{- if and .Values.nats.enabled .Values.broker.url -}}
{{- fail "broker.url names a NATS server that exists while nats.enabled installs one: set nats.enabled to false, or leave broker.url empty" -}}
{{- end -}}
{{- if not (or .Values.nats.enabled .Values.broker.url) -}}
{{- fail "broker.url is empty and nats.enabled is false: name a NATS server that exists, or have one installed" -}}
{{- end -}}
{{- if and .Values.nats.enabled .Values.broker.credentials.secretName (eq .Values.broker.credentials.form "creds") -}}
{{- fail "broker.credentials.form creds is for a NATS server that exists; the one that is installed here knows user and token" -}}
{{- end -}}
{{- if and .Values.nats.enabled .Values.broker.operatorCredentials.secretName -}}
{{- fail "broker.operatorCredentials is for a NATS server that exists; the one that is installed here knows one user: set broker.credentials" -}}
{{- end -}}
{{- if .Values.nats.enabled -}}
{{- $servers := include "kaos.natsServers" . | int -}}
{{- $before := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "kaos.nats" .) -}}
{{- if $before -}}
{{- if ne (int $before.spec.replicas) $servers -}}
{{- fail (printf "nats.durability: there are %d NATS servers and it asks for %d, which would leave the streams behind; docs/kubernetes.md says how to move them" (int $before.spec.replicas) $servers) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
