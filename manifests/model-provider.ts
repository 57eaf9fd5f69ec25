/** What is known of model providers: their OpenAI-compatible base URL, and how their name is written before a model's. */

/** Base URLs that a ModelAPI need not spell out. An empty one: the provider has no address of its own. */
const baseUrls: Readonly<Record<string, string>> = {
  anthropic: 'https://api.anthropic.com/v1',
  azure: '',
  deepseek: 'https://api.deepseek.com/v1',
  fireworks_ai: 'https://api.fireworks.ai/inference/v1',
  gemini: 'https://generativelanguage.googleapis.com/v1beta/openai',
  groq: 'https://api.groq.com/openai/v1',
  hosted_vllm: '',
  lm_studio: '',
  mistral: 'https://api.mistral.ai/v1',
  nebius: 'https://api.studio.nebius.ai/v1',
  ollama: '',
  ollama_chat: '',
  openai: 'https://api.openai.com/v1',
  openrouter: 'https://openrouter.ai/api/v1',
  together_ai: 'https://api.together.xyz/v1',
  vllm: '',
  xai: 'https://api.x.ai/v1',
}

export function providerBaseUrl(provider: string | undefined): string | undefined {
  return provider === undefined || !Object.hasOwn(baseUrls, provider) ? undefined : baseUrls[provider] || undefined
}

/**
 * The model's name as its own API knows it. In KAOS a LiteLLM proxy takes the provider off the front ("nebius/deepseek-ai/DeepSeek-V3" is
 * asked for as "deepseek-ai/DeepSeek-V3"); where the API is asked directly, this does.
 */
export function upstreamModel(model: string, provider?: string): string {
  const [prefix = '', ...rest] = model.split('/')
  const isProvider = provider === undefined ? Object.hasOwn(baseUrls, prefix) : prefix === provider
  return isProvider && rest.length > 0 ? rest.join('/') : model
}
