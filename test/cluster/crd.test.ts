/** The CRDs as an API server reads them: the examples that the definitions are held against here, and every manifest that a reader is given. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { customResourceDefinitions } from '../../manifests/crd/definitions.ts'
import { type Kind, kinds } from '../../manifests/loading/declaration.ts'
import type { KubeObject } from '../../operator/kube/object.ts'
import { blocks, root } from '../docs/blocks.ts'
import { givenManifests } from '../manifests/documents.ts'
import { type Example, fieldExamples, kindNames, objectOf } from '../manifests/examples.ts'
import { examplesOfRules } from '../manifests/rule-examples.ts'
import { type AnyObject, collectionPath } from '../testplane/api.ts'
import { kubectlPath } from '../testplane/kubectl.ts'
import { sharedPlane } from '../testplane/shared.ts'

const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions'
const run = promisify(execFile)
const plane = sharedPlane()
let namespace: string

beforeAll(async () => {
  for (const definition of customResourceDefinitions().values()) {
    await plane.api.apply(definition as unknown as KubeObject)
    await plane.api.waitFor(`${CRDS}/${definition.metadata.name}`, ([crd]) => conditionOf(crd, 'Established') === 'True', {
      what: `CRD ${definition.metadata.name} to be served`,
    })
  }
  namespace = await plane.newNamespace('crd')
})

describe('the CRDs', () => {
  it.each(kindNames)('are structural and have the names that they ask for: %s', async (kind) => {
    const crd = await plane.api.get(`${CRDS}/${customResourceDefinitions().get(kind)!.metadata.name}`)

    expect(conditionOf(crd, 'NamesAccepted')).toBe('True')
    expect(conditionOf(crd, 'NonStructuralSchema')).toBeUndefined()
    expect(conditionOf(crd, 'KubernetesAPIApprovalPolicyConformant')).toBeUndefined()
  })
})

describe('the API server', () => {
  it.each([...fieldExamples(), ...examplesOfRules].map((example) => [titleOf(example), example] as const))(
    'does %s',
    async (_title, { kind, object, refused }) => {
      const { code, body } = await tryCreate(kind, object)

      if (!refused) return expect({ code, message: body.message }).toEqual({ code: 201, message: undefined })
      expect([400, 422]).toContain(code)
      const causes = (body.details?.causes ?? []) as readonly { readonly field: string; readonly message: string }[]
      const told = causes.length > 0 ? causes.map(({ field, message }) => `${field}: ${message}`) : [String(body.message)]
      expect(
        told.filter((text) => isAbout(refused, text)),
        told.join('; '),
      ).not.toEqual([])
    },
  )

  it.each(givenManifests().map((given) => [given.where, given] as const))(
    'takes and fills in as the definition does: %s',
    async (_where, { kind, object }) => {
      const { code, body } = await tryCreate(kind, object)

      expect({ code, message: body.message }).toEqual({ code: 201, message: undefined })
      expect(body.spec).toEqual((kinds[kind].parse(object) as { spec: unknown }).spec)
    },
  )
})

describe('an Agent', () => {
  it('is scaled through its scale subresource, also when nobody said how many pods it has', async () => {
    const path = await created('Agent', objectOf('Agent', '', {}, 'scaled'))
    await plane.api.patch(`${path}/status`, { status: { replicas: 2, selector: 'app=agent,agent=scaled' } })

    const scale = await plane.api.patch(`${path}/scale`, { spec: { replicas: 3 } })

    expect([scale.spec, scale.status]).toEqual([{ replicas: 3 }, { replicas: 2, selector: 'app=agent,agent=scaled' }])
    expect((await plane.api.get(path)).spec.replicas).toBe(3)
  })

  it('goes back to its scaling when what was written is taken away', async () => {
    const path = await created('Agent', objectOf('Agent', '', { replicas: 3 }, 'unscaled'))

    const { spec } = await plane.api.patch(path, { spec: { replicas: null } })

    expect(spec).not.toHaveProperty('replicas')
  })

  it('is found by the ModelAPI that it uses', async () => {
    await created('Agent', objectOf('Agent', '', { modelAPI: 'rare' }, 'found'))

    const agents = await plane.api.list(`${collectionOf('Agent')}?fieldSelector=spec.modelAPI%3Drare`)

    expect(agents.map(({ metadata }) => metadata.name)).toEqual(['found'])
  })

  it('lets two writers add a peer each', async () => {
    const peers = (access: readonly string[]) => objectOf('Agent', '', { agentNetwork: { access } }, 'shared')
    await plane.api.apply(inNamespace(peers(['one'])), 'first')

    const { spec } = await plane.api.apply(inNamespace(peers(['two'])), 'second')

    expect(spec.agentNetwork.access.toSorted()).toEqual(['one', 'two'])
  })

  it('has a status of its own, which counts as no change of the spec', async () => {
    const path = await created('Agent', objectOf('Agent', '', {}, 'told'))
    const condition = {
      type: 'Ready',
      status: 'True',
      observedGeneration: 1,
      lastTransitionTime: '2026-01-31T10:00:00Z',
      reason: 'ScaledToZero',
      message: 'Nothing waits.',
    }
    const status = {
      observedGeneration: 1,
      phase: 'Ready',
      ready: true,
      linkedResources: { modelapi: 'models' },
      backlog: 0,
      replicas: 0,
      desiredReplicas: 0,
      telemetry: { enabled: true, enabledFrom: 'Installation', endpoint: 'collector:4317', endpointFrom: 'Resource' },
      conditions: [condition],
    }

    const told = await plane.api.patch(`${path}/status`, { status, spec: { model: 'other' } })

    expect(told.status).toEqual(status)
    expect(told.spec.model).toBe('gpt-4o')
    expect(told.metadata.generation).toBe(1)
  })
})

describe('the documents', () => {
  it('name agents to an HPA as the server takes it', async () => {
    const isScaler = (object: KubeObject | null) => object?.kind === 'HorizontalPodAutoscaler'
    const texts = blocks.filter(({ language }) => language === 'yaml').flatMap(({ text }) => parseAllDocuments(text))
    const scalers = texts.map((document) => document.toJS() as KubeObject | null).filter((object) => isScaler(object))

    for (const scaler of scalers) {
      const path = `/apis/autoscaling/v2/namespaces/${namespace}/horizontalpodautoscalers?dryRun=All&fieldValidation=Strict`
      const { code, body } = await plane.api.request('POST', path, inNamespace(scaler))
      expect({ code, message: body.message }).toEqual({ code: 201, message: undefined })
    }
    expect(scalers).toHaveLength(1)
  })
})

describe('kubectl', () => {
  it('applies the files of the repository', async () => {
    const printed = await kubectl(['apply', '-f', join(root, 'manifests', 'crds')])

    expect(printed.match(/customresourcedefinition\S* (configured|unchanged)/g)).toHaveLength(kindNames.length)
  })

  it('lists all kinds at once, with what matters first', async () => {
    for (const kind of kindNames) await created(kind, objectOf(kind, '', {}, 'listed'))
    const conditions = [
      { type: 'Ready', status: 'True', lastTransitionTime: '2026-01-31T10:00:00Z', reason: 'ScaledToZero', message: '' },
    ]
    await plane.api.patch(`${collectionOf('Agent')}/listed/status`, { status: { conditions, replicas: 0, backlog: 7 } })

    const printed = await kubectl(['get', 'kaos', '-n', namespace])

    const rows = printed.split('\n').map((line) => line.split(/ {2,}/).map((cell) => cell.trim()))
    expect(rows.filter(([name]) => name === 'NAME').map((cells) => cells.join(' '))).toEqual([
      'NAME READY REASON MODEL REPLICAS BACKLOG AGE',
      'NAME READY REASON RUNTIME REPLICAS BACKLOG AGE',
      'NAME READY REASON MODE REPLICAS AGE',
    ])
    expect(
      rows
        .find(([name]) => name === 'agent.kaos.tools/listed')
        ?.slice(0, 6)
        .join(' '),
    ).toBe('agent.kaos.tools/listed True ScaledToZero gpt-4o 0 7')
  })

  it.each(['ag', 'agents', 'mcp', 'mcps', 'mcpservers', 'api', 'apis', 'mapi', 'modelapis'])('knows %s', async (name) => {
    await expect(kubectl(['get', name, '-n', namespace, '-o', 'name'])).resolves.toBeTypeOf('string')
  })

  it('explains a field in words, with its unit and default', async () => {
    const printed = await kubectl(['explain', 'agents.spec.scaling.cooldownSeconds'])

    expect(printed.replaceAll(/\s+/g, ' ')).toContain('in seconds. Default 120.')
  })

  it('sets how many pods an agent has', async () => {
    const path = await created('Agent', objectOf('Agent', '', {}, 'by-hand'))

    await kubectl(['scale', 'agent/by-hand', '--replicas=2', '-n', namespace])

    expect((await plane.api.get(path)).spec.replicas).toBe(2)
  })
})

async function kubectl(args: readonly string[]): Promise<string> {
  const { stdout } = await run(await kubectlPath(), ['--kubeconfig', plane.address.kubeconfig, ...args])
  return stdout
}

async function tryCreate(kind: Kind, object: unknown) {
  return plane.api.request('POST', `${collectionOf(kind)}?dryRun=All&fieldValidation=Strict`, inNamespace(object))
}

/** Its path. */
async function created(kind: Kind, object: unknown): Promise<string> {
  const { metadata } = await plane.api.create(inNamespace(object))
  return `${collectionOf(kind)}/${metadata.name}`
}

function inNamespace(object: unknown): KubeObject {
  const given = object as KubeObject
  return { ...given, metadata: { ...given.metadata, namespace } }
}

function collectionOf(kind: Kind): string {
  return collectionPath({ apiVersion: 'kaos.tools/v1alpha1', kind, metadata: { name: '', namespace } })
}

/** The server reports a repeated key of a map at its element, and what is no text at all before it looks at any field. */
function isAbout({ at, message }: NonNullable<Example['refused']>, text: string): boolean {
  if (message) return text.startsWith(`${at}: `) && text.endsWith(message)
  return text.includes(at.replace(/\.(name|mountPath)$/, '')) || text.includes('ObjectMeta.name of type string')
}

function titleOf({ title, refused }: Example): string {
  return `${refused ? 'refuse' : 'accept'} ${title}`
}

function conditionOf(object: AnyObject | undefined, type: string): string | undefined {
  const conditions = (object?.status?.conditions ?? []) as readonly { readonly type: string; readonly status: string }[]
  return conditions.find((condition) => condition.type === type)?.status
}
