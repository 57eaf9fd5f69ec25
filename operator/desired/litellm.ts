/** The configuration of a LiteLLM proxy: one entry per model, keys and addresses by variables of its pod. */
import { parse, stringify } from 'yaml'
import { offersModel } from '../../manifests/kinds/model-api.ts'
import { type ClusterModelApi, RefusedError } from './plan.ts'
import { isMap } from './pod/merge.ts'

export const LITELLM_KEY = 'config.yaml'
export const LITELLM_FOLDER = '/etc/litellm'

type ProxyConfig = NonNullable<ClusterModelApi['spec']['proxyConfig']>

/**
 * Undefined: it lies in a Secret. Throws RefusedError for a configuration of the user's that has models which are not offered.
 */
export function litellmConfig(proxy: ProxyConfig, isTraced: boolean): string | undefined {
  const { configYaml } = proxy
  if (configYaml?.fromSecretKeyRef) return undefined
  if (configYaml?.fromString !== undefined) return checked(configYaml.fromString, proxy.models)
  const config = {
    model_list: proxy.models.map((name) => ({ model_name: name, litellm_params: paramsOf(name, proxy) })),
    litellm_settings: {
      drop_params: true,
      // Else prompts and answers stand in its spans.
      ...(isTraced && { callbacks: ['otel'], turn_off_message_logging: true }),
    },
    general_settings: { master_key: 'os.environ/LITELLM_MASTER_KEY' },
  }
  return stringify(config, { lineWidth: 0 })
}

function paramsOf(name: string, { provider, apiBase, apiKey }: ProxyConfig) {
  const model = provider === undefined || name.startsWith(`${provider}/`) ? name : `${provider}/${name}`
  return {
    model,
    ...(apiBase !== undefined && { api_base: 'os.environ/PROXY_API_BASE' }),
    ...(apiKey !== undefined && { api_key: 'os.environ/PROXY_API_KEY' }),
  }
}

/** As it is; agents are offered what spec.proxyConfig.models says, so it must not have more. */
function checked(text: string, offered: readonly string[]): string {
  const field = 'spec.proxyConfig.configYaml.fromString'
  let config: unknown
  try {
    config = parse(text)
  } catch (error) {
    throw new RefusedError('SpecInvalid', `could not read ${field}: ${(error as Error).message.split('\n')[0]}`)
  }
  const models = isMap(config) && Array.isArray(config.model_list) ? config.model_list.filter(isMap) : []
  const names = models.flatMap(({ model_name: name }) => (typeof name === 'string' ? [name] : []))
  const uncovered = names.filter((name) => !offersModel(offered, name))
  if (uncovered.length === 0) return text
  const list = uncovered.map((name) => `"${name}"`).join(', ')
  throw new RefusedError(
    'SpecInvalid',
    `${field} has the models ${list}, which spec.proxyConfig.models does not cover: add them there`,
  )
}
