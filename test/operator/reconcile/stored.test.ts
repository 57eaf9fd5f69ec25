import { describe, expect, it } from 'vitest'
import type { KubeObject } from '../../../operator/kube/object.ts'
import { mattersToOthers, readAgent } from '../../../operator/reconcile/stored.ts'

const agent = (spec: object = {}, metadata: Partial<KubeObject['metadata']> = {}, ready = 'True'): KubeObject => ({
  apiVersion: 'kaos.tools/v1alpha1',
  kind: 'Agent',
  metadata: { name: 'a', namespace: 'team', uid: 'u', generation: 1, ...metadata },
  spec: { modelAPI: 'models', model: 'm', ...spec },
  status: { conditions: [{ type: 'Ready', status: ready }] },
})

describe('a stored agent', () => {
  it('has all its defaults, whatever else the API server writes into its metadata', () => {
    const stored = readAgent(agent({}, { resourceVersion: '7', finalizers: ['x'], generateName: 'a-' } as object))

    expect(stored).toMatchObject({ resource: { metadata: { uid: 'u' }, spec: { scaling: { minReplicas: 0 } } } })
  })

  it('that its definition refuses is a sentence with the field', () => {
    const stored = readAgent(agent({ config: { reasoningLoopMaxSteps: 99 } }))

    expect(stored).toEqual({ problem: expect.stringContaining('spec.config.reasoningLoopMaxSteps') })
  })
})

describe('a change', () => {
  it.each([
    ['of the spec', agent({}, { generation: 2 }), true],
    ['from ready to not ready', agent({}, {}, 'False'), true],
    ['to being deleted', agent({}, { deletionTimestamp: '2026-01-01T00:00:00Z' }), true],
    ['of its labels', agent({}, { labels: { x: 'y' } }), false],
  ])('%s matters to others, or not', (_what, after, matters) => {
    expect(mattersToOthers(agent(), after)).toBe(matters)
  })
})
