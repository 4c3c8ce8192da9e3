{{/* Names. 40 characters leave room for the longest suffix inside a DNS label of 63. */}}
{{- define "granum.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "granum.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "granum.node.name" -}}{{ include "granum.fullname" . }}-node{{- end -}}
{{- define "granum.node.service" -}}{{ include "granum.fullname" . }}-node{{- end -}}
{{- define "granum.coordinator.name" -}}{{ include "granum.fullname" . }}-coordinator{{- end -}}

{{- define "granum.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "granum.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "granum.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* Labels that select never change; those that inform may. (dict "root" $ "role" "node") */}}
{{- define "granum.selectorLabels" -}}
app.kubernetes.io/name: {{ include "granum.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "granum.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "granum.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: granum
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{/* The first three nodes (fewer if there are fewer), by the names that outlive their pods: who starts a cluster, who is asked to join it. */}}
{{- define "granum.seeds" -}}
{{- $seeds := list -}}
{{- range $ordinal := until (int (min 3 .Values.node.replicas)) -}}
{{- $seeds = append $seeds (printf "%s-%d.%s:6335" (include "granum.node.name" $) $ordinal (include "granum.node.domain" $)) -}}
{{- end -}}
{{- join "," $seeds -}}
{{- end -}}

{{- define "granum.node.domain" -}}
{{ include "granum.node.service" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}

{{/* A map of settings as TOML: JSON's numbers, strings and arrays are TOML's too (toToml would write 1 as 1.0). */}}
{{- define "granum.toml" -}}
{{- range $name, $value := . }}
{{ $name }} = {{ toJson $value }}
{{- end }}
{{- end -}}

{{- define "granum.node.config" -}}
# Written by the chart from node.config.
{{- include "granum.toml" .Values.node.config }}
{{- end -}}

{{- define "granum.coordinator.config" -}}
# Written by the chart from coordinator.config.
{{- include "granum.toml" .Values.coordinator.config }}
{{- end -}}

{{/* (dict "probe" .Values.node.livenessProbe "path" "/livez") */}}
{{- define "granum.probe" -}}
httpGet:
  path: {{ .path }}
  port: metrics
periodSeconds: {{ .probe.periodSeconds }}
timeoutSeconds: {{ .probe.timeoutSeconds }}
failureThreshold: {{ .probe.failureThreshold }}
{{- end -}}

{{/* (dict "root" $ "role" "node" "spread" .Values.node.spread) */}}
{{- define "granum.spread" -}}
{{- $topologies := list (list "topology.kubernetes.io/zone" .spread.zone) (list "kubernetes.io/hostname" .spread.host) -}}
{{- range $topology := $topologies }}
{{- if index $topology 1 }}
- topologyKey: {{ index $topology 0 }}
  maxSkew: 1
  whenUnsatisfiable: {{ index $topology 1 }}
  labelSelector:
    matchLabels:
      {{- include "granum.selectorLabels" $ | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What the pods of both roles have in common, after their containers. (dict "root" $ "role" "node" "values" .Values.node) */}}
{{- define "granum.pod" -}}
serviceAccountName: {{ include "granum.serviceAccountName" .root }}
automountServiceAccountToken: false
# Service variables are named after services (GRANUM_PORT=tcp://...), and GRANUM_* are the program's own settings.
enableServiceLinks: false
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "granum.spread" (dict "root" .root "role" .role "spread" .values.spread) | trim }}
topologySpreadConstraints:
  {{- . | nindent 2 }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of a role's pods. (dict "root" $ "role" "node" "values" .Values.node) */}}
{{- define "granum.podMetadata" -}}
# Only what selects: a label with the chart's version would restart every pod for a new chart alone.
labels:
  {{- include "granum.selectorLabels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  # Another configuration makes another pod.
  checksum/config: {{ include (printf "granum.%s.config" .role) .root | sha256sum }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
