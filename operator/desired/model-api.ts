/** What stands behind a ModelAPI: a LiteLLM proxy in front of an API elsewhere (Proxy), or an Ollama (Hosted). */
import type { KubeObject } from '../kube/object.ts'
import { hasGeneratedKey, masterKeyVar } from './agent-environment.ts'
import type { Installation } from './installation.ts'
import { LITELLM_FOLDER, LITELLM_KEY, litellmConfig } from './litellm.ts'
import {
  API_KEY,
  apiKeySecretName,
  containerName,
  HTTP_PORT,
  hashOf,
  INIT_CONTAINER,
  litellmConfigName,
  MASTER_KEY,
  masterKeySecretName,
  OLLAMA_PORT,
  workloadName,
} from './names.ts'
import { type ClusterModelApi, childMeta, type GeneratedSecret, type Plan, planned } from './plan.ts'
import { type EnvVar, literal, secretVar, textVar, withUserVars } from './pod/environment.ts'
import { type Container, configMapOf, deploymentOf, httpProbe, serviceOf } from './pod/pod.ts'
import {
  type EffectiveTelemetry,
  effectiveTelemetry,
  litellmLogVar,
  litellmTelemetryVars,
  ollamaLogVars,
} from './pod/telemetry.ts'

const MAIN = containerName('ModelAPI')
const CONFIG_VOLUME = 'litellm-config'
const MODELS_VOLUME = 'models'
const MODELS_FOLDER = '/models'
const PROXY_GRACE_SECONDS = 60
const HOSTED_GRACE_SECONDS = 30
/** A model of some gigabytes is pulled before the pod is ready. */
const PULL_SECONDS = 3_600
const MASTER_KEY_BYTES = 32
const KEY_MARK_CHARS = 4

/**
 * `$1` is the model. The server has to answer before anything can be asked of it; a model that is there already is not asked for
 * again, so a volume that outlives the pod (podSpec.volumes, name "models") spares the pull.
 */
const PULL_SCRIPT = `ollama serve &
server=$!
tries=0
until ollama list >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ "$tries" -ge 300 ]; then echo "the Ollama server did not answer within 60 s" >&2; exit 1; fi
  sleep 0.2
done
ollama show "$1" >/dev/null 2>&1 || ollama pull "$1"
kill "$server"
wait "$server" || true
`

export interface ModelApiCircumstances {
  readonly installation: Installation
  /** resourceVersion of the Secret of configYaml.fromSecretKeyRef, as far as it is known: a new one rolls the pods. */
  readonly configVersion?: string | undefined
}

export function desiredModelApi(api: ClusterModelApi, { installation, configVersion }: ModelApiCircumstances): Plan {
  const telemetry = effectiveTelemetry(api.spec.telemetry, installation)
  return planned(telemetry, () => {
    if (api.spec.mode === 'Hosted') return { objects: hostedChildren(api, installation), secrets: [], unmet: [] }
    return {
      objects: proxyChildren(api, telemetry, installation, configVersion),
      secrets: hasGeneratedKey(api) ? [masterKeySecret(api)] : [],
      unmet: [],
    }
  })
}

/** Port of the Service of a ModelAPI. */
export function modelApiPort({ spec }: Pick<ClusterModelApi, 'spec'>): number {
  return spec.mode === 'Hosted' ? OLLAMA_PORT : HTTP_PORT
}

function proxyChildren(
  api: ClusterModelApi,
  telemetry: EffectiveTelemetry,
  installation: Installation,
  configVersion: string | undefined,
): readonly KubeObject[] {
  const { metadata, spec } = api
  const proxy = spec.proxyConfig!
  const name = workloadName('ModelAPI', metadata.name)
  const configName = litellmConfigName(metadata.name)
  const config = litellmConfig(proxy, telemetry.url !== undefined)
  const key = proxy.apiKey?.value
  const main: Container = {
    name: MAIN,
    image: installation.images.litellm,
    args: ['--config', `${LITELLM_FOLDER}/${LITELLM_KEY}`, '--port', String(HTTP_PORT)],
    env: proxyVars(api, telemetry, installation),
    ports: [{ name: 'http', containerPort: HTTP_PORT, protocol: 'TCP' }],
    resources: installation.resources.modelProxy,
    volumeMounts: [{ name: CONFIG_VOLUME, mountPath: LITELLM_FOLDER, readOnly: true }],
    livenessProbe: httpProbe('/health/liveliness', HTTP_PORT, {
      initialDelaySeconds: 30,
      periodSeconds: 10,
      timeoutSeconds: 5,
      failureThreshold: 3,
    }),
    readinessProbe: httpProbe('/health/liveliness', HTTP_PORT, {
      initialDelaySeconds: 5,
      periodSeconds: 5,
      timeoutSeconds: 5,
      failureThreshold: 3,
    }),
  }
  const ref = proxy.configYaml?.fromSecretKeyRef
  const source = ref
    ? { secret: { secretName: ref.name, items: [{ key: ref.key, path: LITELLM_KEY }] } }
    : { configMap: { name: configName } }
  const pod = { main, volumes: [{ name: CONFIG_VOLUME, ...source }], graceSeconds: PROXY_GRACE_SECONDS }
  // Another key rolls the pods. So short a hash of it says that it changed, and proves no guess of it.
  const keyMark = key === undefined ? [] : [hashOf([key]).slice(0, KEY_MARK_CHARS)]
  const configHash = hashOf([config ?? '', configVersion ?? '', ...keyMark])
  return [
    ...(key === undefined ? [] : [apiKeySecret(api, key)]),
    ...(config === undefined ? [] : [configMapOf(api, configName, { [LITELLM_KEY]: config })]),
    deploymentOf(api, { name, replicas: 1, configHash, pod }, installation),
    serviceOf(api, name, HTTP_PORT),
  ]
}

function proxyVars(api: ClusterModelApi, telemetry: EffectiveTelemetry, installation: Installation): readonly EnvVar[] {
  const { apiBase } = api.spec.proxyConfig!
  return [
    ...(apiBase === undefined ? [] : [textVar('PROXY_API_BASE', apiBase)]),
    ...apiKeyVars(api),
    masterKeyVar('LITELLM_MASTER_KEY', api),
    textVar('HOME', '/tmp'),
    textVar('LITELLM_LOCAL_MODEL_COST_MAP', 'True'), // else it asks the internet for prices when it starts
    litellmLogVar(installation.logLevel),
    ...litellmTelemetryVars(telemetry, api.metadata),
  ]
}

function apiKeyVars({ metadata, spec }: ClusterModelApi): readonly EnvVar[] {
  const { value, valueFrom } = spec.proxyConfig?.apiKey ?? {}
  if (value !== undefined) return [secretVar('PROXY_API_KEY', apiKeySecretName(metadata.name), API_KEY)]
  const { secretKeyRef, configMapKeyRef } = valueFrom ?? {}
  if (secretKeyRef) return [secretVar('PROXY_API_KEY', secretKeyRef.name, secretKeyRef.key, secretKeyRef.optional)]
  return configMapKeyRef ? [{ name: 'PROXY_API_KEY', valueFrom: { configMapKeyRef } }] : []
}

function apiKeySecret(api: ClusterModelApi, key: string): KubeObject {
  const data = { [API_KEY]: Buffer.from(key).toString('base64') }
  return { apiVersion: 'v1', kind: 'Secret', metadata: childMeta(api, apiKeySecretName(api.metadata.name)), type: 'Opaque', data }
}

function masterKeySecret(api: ClusterModelApi): GeneratedSecret {
  return {
    metadata: childMeta(api, masterKeySecretName(api.metadata.name)),
    key: MASTER_KEY,
    prefix: 'sk-',
    randomBytes: MASTER_KEY_BYTES,
  }
}

function hostedChildren(api: ClusterModelApi, installation: Installation): readonly KubeObject[] {
  const name = workloadName('ModelAPI', api.metadata.name)
  const model = api.spec.hostedConfig!.model
  const volumeMounts = [{ name: MODELS_VOLUME, mountPath: MODELS_FOLDER }]
  const image = api.spec.container?.image ?? installation.images.ollama
  const resources = installation.resources.hostedModel
  const places = [textVar('HOME', '/tmp'), textVar('OLLAMA_MODELS', MODELS_FOLDER)]
  const pull: Container = {
    name: INIT_CONTAINER,
    image,
    command: ['/bin/sh', '-ec', PULL_SCRIPT, INIT_CONTAINER, model].map(literal),
    // A proxy to the internet, say, counts for the pull too.
    env: withUserVars([...places, textVar('OLLAMA_HOST', `127.0.0.1:${OLLAMA_PORT}`)], api.spec.container?.env),
    resources,
    volumeMounts,
  }
  const main: Container = {
    name: MAIN,
    image,
    env: [...places, textVar('OLLAMA_HOST', `0.0.0.0:${OLLAMA_PORT}`), ...ollamaLogVars(installation.logLevel)],
    ports: [{ name: 'http', containerPort: OLLAMA_PORT, protocol: 'TCP' }],
    resources,
    volumeMounts,
    livenessProbe: httpProbe('/', OLLAMA_PORT, {
      initialDelaySeconds: 30,
      periodSeconds: 10,
      timeoutSeconds: 5,
      failureThreshold: 3,
    }),
    readinessProbe: httpProbe('/', OLLAMA_PORT, {
      initialDelaySeconds: 2,
      periodSeconds: 5,
      timeoutSeconds: 5,
      failureThreshold: 3,
    }),
  }
  const pod = {
    main,
    initContainers: [pull],
    volumes: [{ name: MODELS_VOLUME, emptyDir: {} }],
    graceSeconds: HOSTED_GRACE_SECONDS,
  }
  const configHash = hashOf([model])
  const workload = { name, replicas: 1, configHash, pod, progressDeadlineSeconds: PULL_SECONDS, endsBeforeNext: true }
  return [deploymentOf(api, workload, installation), serviceOf(api, name, OLLAMA_PORT)]
}
