import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { desiredModelApi } from '../../../operator/desired/model-api.ts'
import {
  agent,
  child,
  childrenOf,
  configText,
  container,
  deployment,
  env,
  hosted,
  installation,
  planAgent,
  planApi,
  pod,
  proxy,
} from './cluster.ts'

const config = (plan: Parameters<typeof configText>[0]) =>
  parse(configText(plan)) as { model_list: unknown; litellm_settings: object; general_settings: object }
const hashOf = (plan: Parameters<typeof configText>[0]) =>
  deployment(plan).template.metadata.annotations['kaos.tools/config-hash']

describe('what stands behind a ModelAPI that is a proxy', () => {
  it('is a LiteLLM with its configuration, under the names of KAOS', () => {
    const plan = planApi(proxy())

    expect(childrenOf(plan).map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([
      'ConfigMap litellm-config-models',
      'Deployment modelapi-models',
      'Service modelapi-models',
    ])
    expect(container(plan)).toMatchObject({ name: 'model-api', args: ['--config', '/etc/litellm/config.yaml', '--port', '8000'] })
  })

  it.each([
    [['*'], {}, [{ model_name: '*', litellm_params: { model: '*' } }]],
    [['*'], { provider: 'nebius' }, [{ model_name: '*', litellm_params: { model: 'nebius/*' } }]],
    [
      ['gemini/*', 'gpt-4o'],
      {},
      [
        { model_name: 'gemini/*', litellm_params: { model: 'gemini/*' } },
        { model_name: 'gpt-4o', litellm_params: { model: 'gpt-4o' } },
      ],
    ],
    [
      ['nebius/deepseek'],
      { provider: 'nebius' },
      [{ model_name: 'nebius/deepseek', litellm_params: { model: 'nebius/deepseek' } }],
    ],
    [
      ['*'],
      { apiBase: 'http://host.test:11434', apiKey: { value: 'k' } },
      [
        {
          model_name: '*',
          litellm_params: { model: '*', api_base: 'os.environ/PROXY_API_BASE', api_key: 'os.environ/PROXY_API_KEY' },
        },
      ],
    ],
  ])('offers %j with %j', (models, more, expected) => {
    expect(config(planApi(proxy({ models, ...more }))).model_list).toEqual(expected)
  })

  it('reports its calls where telemetry is on, without what was said in them', () => {
    const on = config(planApi(proxy(), { telemetry: { endpoint: 'collector:4317' } }))

    expect(on.litellm_settings).toEqual({ drop_params: true, callbacks: ['otel'], turn_off_message_logging: true })
    expect(config(planApi(proxy())).litellm_settings).toEqual({ drop_params: true })
    expect(on.general_settings).toEqual({ master_key: 'os.environ/LITELLM_MASTER_KEY' })
  })

  it('asks of its callers a key that is made once, and that its agents are given', () => {
    const plan = planApi(proxy())
    const ref = { valueFrom: { secretKeyRef: { name: 'modelapi-models-master-key', key: 'master-key' } } }

    expect(plan).toMatchObject({
      secrets: [
        {
          metadata: { name: 'modelapi-models-master-key', namespace: 'team' },
          key: 'master-key',
          prefix: 'sk-',
          randomBytes: 32,
        },
      ],
    })
    expect(container(plan).env).toContainEqual({ name: 'LITELLM_MASTER_KEY', ...ref })
    expect(container(planAgent(agent('writer'), { modelApis: [proxy()] })).env).toContainEqual({ name: 'MODEL_API_KEY', ...ref })
  })

  it('takes the key that its user sets instead, and gives its agents the same', () => {
    const valueFrom = { secretKeyRef: { name: 'mine', key: 'k' } }
    const api = proxy({}, { container: { env: [{ name: 'LITELLM_MASTER_KEY', valueFrom }] } })

    expect(planApi(api)).toMatchObject({ secrets: [] })
    expect(container(planAgent(agent('writer'), { modelApis: [api] })).env).toContainEqual({ name: 'MODEL_API_KEY', valueFrom })
  })

  it('keeps a key that stands in the manifest in a Secret and nowhere else', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 8, maxLength: 40 }).map((key) => `Key:${key}`),
        (value) => {
          const api = proxy({ apiKey: { value } })
          const objects = [...childrenOf(planApi(api)), ...childrenOf(planAgent(agent('writer'), { modelApis: [api] }))]
          const encoded = Buffer.from(value).toString('base64')

          const holders = objects.filter((object) =>
            [value, encoded].some((text) => JSON.stringify(object).includes(JSON.stringify(text).slice(1, -1))),
          )
          expect(holders.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual(['Secret modelapi-models-api-key'])
        },
      ),
      { numRuns: 50 },
    )
  })

  it('rolls the pods when the key that stands in the manifest changes', () => {
    const hash = (value: string) => hashOf(planApi(proxy({ apiKey: { value } })))

    expect(hash('sk-one')).not.toBe(hash('sk-two'))
  })

  it.each([
    [{ secretKeyRef: { name: 'keys', key: 'k' } }, { secretKeyRef: { name: 'keys', key: 'k' } }],
    [{ configMapKeyRef: { name: 'keys', key: 'k' } }, { configMapKeyRef: { name: 'keys', key: 'k' } }],
  ])('is given a key by reference: %j', (valueFrom, expected) => {
    expect(container(planApi(proxy({ apiKey: { valueFrom } }))).env).toContainEqual({
      name: 'PROXY_API_KEY',
      valueFrom: expected,
    })
  })

  it('takes a configuration of the user as it is', () => {
    const text = 'model_list:\n  - model_name: gemini/flash # mine\n    litellm_params: { model: gemini/flash }\n'

    expect(configText(planApi(proxy({ models: ['gemini/*'], configYaml: { fromString: text } })))).toBe(text)
  })

  it.each([
    [
      'model_list: [{ model_name: gpt-4o }, { model_name: gemini/flash }]',
      /has the models "gpt-4o", which spec\.proxyConfig\.models does not cover/,
    ],
    ['model_list: [', /could not read spec\.proxyConfig\.configYaml\.fromString/],
  ])('is refused a configuration that does not fit: %s', (fromString, message) => {
    expect(planApi(proxy({ models: ['gemini/*'], configYaml: { fromString } }))).toMatchObject({
      is: 'refused',
      reason: 'SpecInvalid',
      message: expect.stringMatching(message),
    })
  })

  it('mounts a configuration that lies in a Secret, and rolls when that is written anew', () => {
    const api = proxy({ configYaml: { fromSecretKeyRef: { name: 'litellm', key: 'conf' } } })
    const planAt = (configVersion: string) => desiredModelApi(api, { installation: installation(), configVersion })

    expect(child(planAt('1'), 'ConfigMap')).toBeUndefined()
    expect(pod(planAt('1')).volumes).toContainEqual({
      name: 'litellm-config',
      secret: { secretName: 'litellm', items: [{ key: 'conf', path: 'config.yaml' }] },
    })
    expect(hashOf(planAt('2'))).not.toBe(hashOf(planAt('1')))
  })

  it('rolls the pods when its configuration changes', () => {
    expect(hashOf(planApi(proxy({ models: ['a', 'b'] })))).not.toBe(hashOf(planApi(proxy({ models: ['a'] }))))
  })
})

describe('what stands behind a ModelAPI that is hosted', () => {
  it('is an Ollama that pulls its model before it serves', () => {
    const plan = planApi(hosted('smollm2:135m'))

    expect(childrenOf(plan).map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([
      'Deployment modelapi-models',
      'Service modelapi-models',
    ])
    expect(container(plan, 'pull-model').command?.slice(-2)).toEqual(['pull-model', 'smollm2:135m'])
    expect(env(plan)).toMatchObject({ OLLAMA_HOST: '0.0.0.0:11434', OLLAMA_MODELS: '/models' })
    expect(child(plan, 'Service')!.spec).toMatchObject({ ports: [{ name: 'http', port: 11434, targetPort: 11434 }] })
  })

  it('ends before the next begins, which waits for its GPU or volume', () => {
    const strategyOf = (api: Parameters<typeof planApi>[0]) => deployment(planApi(api)).strategy

    expect(strategyOf(hosted())).toEqual({ type: 'RollingUpdate', rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } })
    expect(strategyOf(proxy())).toEqual({ type: 'RollingUpdate', rollingUpdate: { maxSurge: '25%', maxUnavailable: 0 } })
  })

  it('pulls with the image and the variables of the user', () => {
    const variable = { name: 'HTTPS_PROXY', value: 'http://proxy:3128' }

    const plan = planApi(hosted('m', { container: { image: 'mine:1', env: [variable] } }))

    expect(container(plan, 'pull-model').image).toBe('mine:1')
    expect(container(plan, 'pull-model').env).toContainEqual(variable)
  })

  it('keeps its models on a volume of the user', () => {
    const volume = { name: 'models', persistentVolumeClaim: { claimName: 'models' } }

    expect(pod(planApi(hosted('m', { podSpec: { volumes: [volume] } }))).volumes).toEqual([{ name: 'tmp', emptyDir: {} }, volume])
  })
})
