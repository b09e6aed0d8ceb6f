{{- define "spaceport.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-spaceport" (.Release.Name | trunc 30 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "spaceport.labels" -}}
app.kubernetes.io/name: spaceport
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "spaceport.etcdName" -}}
{{ include "spaceport.fullname" . }}-etcd
{{- end -}}

{{- define "spaceport.rpcSecret" -}}
{{ .Values.manager.tls.secret | default (printf "%s-rpc" (include "spaceport.fullname" .)) }}
{{- end -}}

{{- define "spaceport.sealSecret" -}}
{{ .Values.manager.sealing.secret | default (printf "%s-seal" (include "spaceport.fullname" .)) }}
{{- end -}}

{{- define "spaceport.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The configuration: the chart's part over the user's. */ -}}
{{- define "spaceport.config" -}}
{{- $given := .Values.manager.config -}}
{{- range $path, $instead := dict
      "etcd.endpoints" "use the value etcd.endpoints instead" "etcd.tls" "use the value etcd.tlsSecret instead"
      "rpcServer.addr" "use the value manager.service.port instead" "rpcServer.tls" "use the value manager.tls.secret instead"
      "federation.sealing" "use the value manager.sealing.secret instead"
      "health.addr" "the port is 9090" "prometheus.addr" "the port is 9500" -}}
{{- $keys := splitList "." $path -}}
{{- if hasKey (index $given (first $keys) | default dict) (last $keys) -}}
{{- fail (printf "manager.config.%s is set by the chart: %s" $path $instead) -}}
{{- end -}}
{{- end -}}
{{- $tls := dict "ca" "/secrets/rpc/ca.crt" "crt" "/secrets/rpc/tls.crt" "key" "/secrets/rpc/tls.key" -}}
{{- $etcd := dict "endpoints" .Values.etcd.endpoints -}}
{{- if .Values.etcd.trial.enabled -}}
{{- $etcd = dict "endpoints" (list (printf "http://%s.%s.svc:2379" (include "spaceport.etcdName" .) .Release.Namespace)) -}}
{{- else if .Values.etcd.tlsSecret -}}
{{- $files := dict "ca" "/secrets/etcd/ca.crt" "crt" "/secrets/etcd/tls.crt" "key" "/secrets/etcd/tls.key" -}}
{{- $etcd = set $etcd "tls" $files -}}
{{- end -}}
{{- $sealing := dict "keys" (list (dict "id" "1" "file" "/secrets/seal/key")) -}}
{{- $chart := dict
      "etcd" $etcd
      "rpcServer" (dict "addr" ":8080" "tls" $tls)
      "prometheus" (dict "addr" ":9500")
      "health" (dict "addr" ":9090")
      "federation" (dict "sealing" $sealing) -}}
{{- mergeOverwrite (deepCopy .Values.manager.config) $chart | toYaml -}}
{{- end -}}

{{- /* The namespaces of Workspaces that the node agent serves. */ -}}
{{- define "spaceport.served" -}}
{{- $names := list -}}
{{- range .Values.node.namespaces }}{{ $names = append $names .namespace }}{{ end -}}
{{- join "," $names -}}
{{- end -}}

{{- /* The configuration of the node agent: the chart's part over the user's. */ -}}
{{- define "spaceport.nodeConfig" -}}
{{- $given := .Values.node.config -}}
{{- range $path, $instead := dict
      "node.namespaces" "use the value node.namespaces instead"
      "node.workspaceHostPath" "use the value node.workspaceHostPath instead"
      "health.addr" "the port is 9090" "prometheus.addr" "the port is 9500" -}}
{{- $keys := splitList "." $path -}}
{{- if hasKey (index $given (first $keys) | default dict) (last $keys) -}}
{{- fail (printf "node.config.%s is set by the chart: %s" $path $instead) -}}
{{- end -}}
{{- end -}}
{{- $chart := dict
      "node" (dict "namespaces" .Values.node.namespaces "workspaceHostPath" .Values.node.workspaceHostPath)
      "prometheus" (dict "addr" ":9500")
      "health" (dict "addr" ":9090") -}}
{{- mergeOverwrite (deepCopy $given) $chart | toYaml -}}
{{- end -}}
