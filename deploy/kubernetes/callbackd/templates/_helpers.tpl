{{- define "callbackd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* A StatefulSet's name is part of a label that takes 63 characters together with a hash, so 52. */}}
{{- define "callbackd.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "callbackd.selector" -}}
app.kubernetes.io/name: {{ include "callbackd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "callbackd.labels" -}}
{{ include "callbackd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "callbackd.serviceAccount" -}}
{{- default (ternary (include "callbackd.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "callbackd.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* What callbackd knows, in JSON: its services with their ports, and its sets of addresses. */}}
{{- define "callbackd.facts" -}}
{{- .Files.Get "files/facts.yaml" | fromYaml | toJson }}
{{- end }}

{{/* The services to receive with their sections, in JSON. */}}
{{- define "callbackd.services" -}}
{{- $services := get .Values.config "services" | default dict }}
{{- if not $services }}
{{- range $name, $port := (include "callbackd.facts" . | fromJson).services }}
{{- $_ := set $services $name dict }}
{{- end }}
{{- end }}
{{- $services | toJson }}
{{- end }}

{{/* The port of one service: of a dict with facts, name and section. */}}
{{- define "callbackd.port" -}}
{{- $known := get .facts.services .name }}
{{- if not $known }}
{{- fail (printf "config.services.%s: there is no such service: it is one of %s" .name (keys .facts.services | sortAlpha | join ", ")) }}
{{- end }}
{{- $listen := default (printf "0.0.0.0:%v" $known) (get (default dict .section) "listen") }}
{{- if not (regexMatch "^(0\\.0\\.0\\.0|\\[::\\]|):[1-9][0-9]{0,4}$" $listen) }}
{{- fail (printf "config.services.%s.listen: %q is not 0.0.0.0:PORT or [::]:PORT, and nothing else reaches a pod" .name $listen) }}
{{- end }}
{{- $port := regexFind "[0-9]+$" $listen | int }}
{{- if gt $port 65535 }}
{{- fail (printf "config.services.%s.listen: port %d: the last is 65535" .name $port) }}
{{- else if eq $port 9400 }}
{{- fail (printf "config.services.%s.listen: port 9400 is the admin listener's: take another" .name) }}
{{- end }}
{{- $port }}
{{- end }}

{{/* The ports of all services, each once, in JSON. */}}
{{- define "callbackd.ports" -}}
{{- $facts := include "callbackd.facts" . | fromJson }}
{{- $ports := list }}
{{- range $name, $section := include "callbackd.services" . | fromJson }}
{{- $ports = append $ports (include "callbackd.port" (dict "facts" $facts "name" $name "section" $section)) }}
{{- end }}
{{- $ports | uniq | sortAlpha | toJson }}
{{- end }}

{{/* Refuses what no firewall could be made from: of a dict with root, name and entries. */}}
{{- define "callbackd.addresses" -}}
{{- $sets := (include "callbackd.facts" .root | fromJson).sets }}
{{- $name := .name }}
{{- range .entries }}
{{- $address := regexMatch "^(([0-9]{1,3}[.]){3}[0-9]{1,3}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)(/[0-9]{1,3})?$" . }}
{{- if not (or $address (eq . "loopback") (hasKey $sets .)) }}
{{- fail (printf "%s: %q is no address or CIDR, and none of the sets loopback, %s" $name . (keys $sets | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- end }}

{{/* A list of addresses, CIDRs and sets as CIDRs, in JSON: of a dict with root, name and entries. Loopback is left out: nothing outside the pod
comes from there. An empty list would admit everybody, so there has to be more. */}}
{{- define "callbackd.cidrs" -}}
{{- $sets := (include "callbackd.facts" .root | fromJson).sets }}
{{- $cidrs := list }}
{{- range .entries }}
{{- if eq . "loopback" }}
{{- else if hasKey $sets . }}
{{- $cidrs = concat $cidrs (get $sets .) }}
{{- else if contains "/" . }}
{{- $cidrs = append $cidrs . }}
{{- else if contains ":" . }}
{{- $cidrs = append $cidrs (printf "%s/128" .) }}
{{- else }}
{{- $cidrs = append $cidrs (printf "%s/32" .) }}
{{- end }}
{{- end }}
{{- if not $cidrs }}
{{- fail (printf "network.%s has nothing but loopback, from where nobody reaches a pod: add who may connect" .name) }}
{{- end }}
{{- $cidrs | uniq | toJson }}
{{- end }}

{{/* A duration of the configuration in whole seconds, rounded up: of a dict with name and text. */}}
{{- define "callbackd.seconds" -}}
{{- if not (regexMatch "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$" .text) }}
{{- fail (printf "config.shutdown.%s: %q is not a duration such as 500ms, 10s or 1m" .name .text) }}
{{- end }}
{{- $units := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 }}
{{- $sum := 0.0 }}
{{- range regexFindAll "[0-9]+(\\.[0-9]+)?(ms|s|m|h)" .text -1 }}
{{- $sum = addf $sum (mulf (regexFind "^[0-9.]+" . | float64) (get $units (regexFind "[a-z]+$" .))) }}
{{- end }}
{{- $sum | ceil | int }}
{{- end }}

{{/* How the process stops, in JSON: callbackd's defaults, with a lame duck, under what the configuration says. */}}
{{- define "callbackd.shutdown" -}}
{{- $defaults := dict "lame_duck" "5s" "drain" "10s" "grace" "20s" }}
{{- merge (deepCopy (get .Values.config "shutdown" | default dict)) $defaults | toJson }}
{{- end }}

{{/* Longer than callbackd takes to stop at its longest: it gives every step some seconds beyond what it is told. */}}
{{- define "callbackd.grace" -}}
{{- $shutdown := include "callbackd.shutdown" . | fromJson }}
{{- $sum := 60 }}
{{- range $name := list "lame_duck" "drain" "grace" }}
{{- $sum = add $sum (include "callbackd.seconds" (dict "name" $name "text" (get $shutdown $name | toString)) | int) }}
{{- end }}
{{- $sum }}
{{- end }}

{{/* callbackd.yaml */}}
{{- define "callbackd.config" -}}
{{- $config := deepCopy .Values.config }}
{{- range $key, $why := dict "data_dir" "the volume is mounted there" "network" "write it as the value network, which the firewalls are made from too" }}
{{- if hasKey $config $key }}
{{- fail (printf "config.%s is for the chart to say: %s" $key $why) }}
{{- end }}
{{- end }}
{{- $admin := get $config "admin" | default dict }}
{{- if hasKey $admin "listen" }}
{{- fail "config.admin.listen is for the chart to say: the probes and the NetworkPolicy know its port" }}
{{- end }}
{{- range $i, $pair := get $config "credentials" | default list }}
{{- if hasKey $pair "password" }}
{{- fail (printf "config.credentials[%d].password: a ConfigMap is no place for it: put it into a Secret, name that in the value secrets, and write password_file: /etc/callbackd/secrets/NAME/KEY" $i) }}
{{- end }}
{{- end }}
{{- range $name := list "allow" "trusted_proxies" }}
{{- include "callbackd.addresses" (dict "root" $ "name" (printf "network.%s" $name) "entries" (get $.Values.network $name | default list)) }}
{{- end }}
{{- include "callbackd.addresses" (dict "root" . "name" "test.podCIDRs" "entries" .Values.test.podCIDRs) }}
{{- $network := deepCopy .Values.network }}
{{- $_ := set $network "allow" (concat (get $network "allow" | default list) (ternary .Values.test.podCIDRs list .Values.test.enabled) | uniq) }}
{{- $_ := set $config "data_dir" "/var/lib/callbackd" }}
{{- $_ := set $config "admin" (set $admin "listen" "0.0.0.0:9400") }}
{{- $_ := set $config "network" $network }}
{{- $_ := set $config "services" (include "callbackd.services" . | fromJson) }}
{{- $_ := set $config "shutdown" (include "callbackd.shutdown" . | fromJson) }}
{{- toYaml $config }}
{{- end }}

{{- define "callbackd.podSecurityContext" -}}
runAsNonRoot: true
{{- if get .Values "runAs" }}
runAsUser: {{ .Values.runAs }}
runAsGroup: {{ .Values.runAs }}
fsGroup: {{ .Values.runAs }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "callbackd.securityContext" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{/* What the configuration is and refers to, for every container that reads it. None is a subPath: those are never updated. */}}
{{- define "callbackd.configMounts" -}}
- {name: config, mountPath: /etc/callbackd/config, readOnly: true}
{{- range $name, $secret := .Values.secrets }}
- {name: secret-{{ $name }}, mountPath: /etc/callbackd/secrets/{{ $name }}, readOnly: true}
{{- end }}
- {name: temporary, mountPath: /tmp}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "callbackd.configVolumes" -}}
- name: config
  configMap: {name: {{ include "callbackd.fullname" . }}, defaultMode: 0440}
{{- range $name, $secret := .Values.secrets }}
- name: secret-{{ $name }}
  secret: {secretName: {{ $secret }}, defaultMode: 0440}
{{- end }}
- name: temporary
  emptyDir: {}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Not the selector of callbackd: nothing is to reach the test, and no budget counts it. */}}
{{- define "callbackd.testSelector" -}}
app.kubernetes.io/name: {{ include "callbackd.name" . }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Whether `helm test` can send: callbackd has to admit its pod. */}}
{{- define "callbackd.tested" -}}
{{- if and .Values.test.enabled (or (eq .Values.network.mode "observe") .Values.test.podCIDRs) }}true{{ end }}
{{- end }}
