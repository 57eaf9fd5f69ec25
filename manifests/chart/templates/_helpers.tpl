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

{{/* Whether the operator mounts what proves who it and the broker are. */}}
{{- define "kaos.hasBrokerFiles" -}}
{{- $credentials := include "kaos.operatorCredentials" . | fromYaml -}}
{{- if or .Values.broker.ca.configMapName (and $credentials.secretName (eq $credentials.form "creds")) }}true{{ else }}false{{ end -}}
{{- end }}

{{/*
What the operator may do in the namespaces that it keeps. Nothing here may be left out or added without a reason: a test runs the operator with
exactly these rights, and every one of them has to be used. An apply is a patch, and a create where the object is new.
*/}}
{{- define "kaos.rules" -}}
# What is declared; a patch sets the finalizer of those with streams, or takes it away.
- { apiGroups: [kaos.tools], resources: [agents, mcpservers, modelapis], verbs: [list, watch] }
- { apiGroups: [kaos.tools], resources: [agents, mcpservers], verbs: [patch] }
- { apiGroups: [kaos.tools], resources: [agents/status, mcpservers/status, modelapis/status], verbs: [patch] }
# The first count of an agent that others scale.
- { apiGroups: [kaos.tools], resources: [agents/scale], verbs: [patch] }
# Children that keep their owner from going first; asked for by OwnerReferencesPermissionEnforcement only.
- { apiGroups: [kaos.tools], resources: [agents/finalizers, mcpservers/finalizers, modelapis/finalizers], verbs: [update] }
# What stands behind it.
- { apiGroups: [apps], resources: [deployments], verbs: [list, watch, create, patch, delete] }
- { apiGroups: [""], resources: [services, configmaps, serviceaccounts], verbs: [list, watch, create, patch, delete] }
- { apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [list, watch, create, patch, delete] }
- { apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [list, watch, create, patch, delete] }
# Keys of model APIs. Only names and versions are watched, but a role cannot say so.
- { apiGroups: [""], resources: [secrets], verbs: [list, watch, create, patch, delete] }
# Why pods do not work, and what is told about it.
- { apiGroups: [""], resources: [pods], verbs: [list, watch] }
- { apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch] }
{{- end }}

{{/* Bytes of a quantity, such as 10Gi: the server writes one of equal size in its own way. */}}
{{- define "kaos.bytes" -}}
{{- $factors := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "m" 0.001 "" 1 -}}
{{- $suffix := regexFind "[A-Za-z]*$" . -}}
{{- mulf (float64 (trimSuffix $suffix .)) (float64 (get $factors $suffix)) | printf "%.0f" -}}
{{- end }}

{{/* What a StatefulSet cannot change is refused with what to do, before the server refuses it in its words. */}}
{{- define "kaos.checkStorage" -}}
{{- $before := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "kaos.nats" .) -}}
{{- if $before -}}
{{- $servers := include "kaos.natsServers" . | int -}}
{{- if ne (int $before.spec.replicas) $servers -}}
{{- fail (printf "nats.durability: there are %d NATS servers and it asks for %d, which would leave the streams behind; docs/kubernetes.md says how to move them" (int $before.spec.replicas) $servers) -}}
{{- end -}}
{{- $storage := .Values.nats.storage -}}
{{- $claims := $before.spec.volumeClaimTemplates | default list -}}
{{- if ne $storage.persistent (gt (len $claims) 0) -}}
{{- fail (printf "nats.storage.persistent: it is %t there and cannot be changed; docs/kubernetes.md says how to move the streams" (gt (len $claims) 0)) -}}
{{- end -}}
{{- range $claims -}}
{{- $class := .spec.storageClassName | default "" -}}
{{- if ne $class $storage.className -}}
{{- fail (printf "nats.storage.className: it is %q there and cannot be changed; docs/kubernetes.md says how to move the streams" $class) -}}
{{- end -}}
{{- $size := .spec.resources.requests.storage -}}
{{- if ne (include "kaos.bytes" $size) (include "kaos.bytes" $storage.size) -}}
{{- fail (printf "nats.storage.size: it is %s there and %s here, and a StatefulSet cannot change it; docs/kubernetes.md (Its disk) says how the volumes grow" $size $storage.size) -}}
{{- end -}}
{{- end -}}
{{- end -}}
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
{{- if not (or .Values.nats.storage.persistent (eq .Values.nats.durability "OneServer")) -}}
{{- fail (printf "nats.durability: %s promises that the loss of a server loses nothing, and with nats.storage.persistent false a server that restarts has forgotten everything; set persistent to true, or durability to OneServer" .Values.nats.durability) -}}
{{- end -}}
{{- include "kaos.checkStorage" . -}}
{{- end -}}
{{- end }}
