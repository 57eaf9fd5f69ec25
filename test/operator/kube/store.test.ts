import { describe, expect, it } from 'vitest'
import type { KubeObject } from '../../../operator/kube/object.ts'
import { Store } from '../../../operator/kube/store.ts'

/** As it comes from the API server: no two share anything. */
const deployment = (name: string, resourceVersion = '1'): KubeObject =>
  JSON.parse(
    JSON.stringify({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { namespace: 'default', name, uid: `uid of ${name}`, resourceVersion, labels: { app: 'agent', agent: name } },
      spec: {
        replicas: 0,
        paused: false,
        template: {
          probe: { path: '/health', seconds: 10 },
          env: [
            { name: 'A', value: '1' },
            { name: 'NAME', value: name },
          ],
        },
        note: 'long '.repeat(300),
        nothing: null,
      },
    }),
  )
const specOf = ({ spec }: KubeObject) => spec as { template: { probe: object; env: readonly object[] }; note: string }

describe('a store', () => {
  it('holds once what objects have in common, and gives each as it was put', () => {
    const store = new Store()

    for (const name of ['a', 'b']) store.put(deployment(name))
    const [a, b] = store.list() as [KubeObject, KubeObject]

    expect([a, b]).toEqual([deployment('a'), deployment('b')])
    expect(specOf(b).template.probe).toBe(specOf(a).template.probe)
    expect(specOf(b).template.env[0]).toBe(specOf(a).template.env[0])
    expect(specOf(b).template.env[1]).not.toBe(specOf(a).template.env[1])
  })

  it('makes each version an object of its own, also where nothing but the version differs', () => {
    const store = new Store()
    const [added] = store.put(deployment('a'))

    const changes = store.put(deployment('a', '2'))

    expect(changes).toEqual([{ type: 'updated', object: deployment('a', '2'), before: deployment('a') }])
    expect(changes[0]!.object).not.toBe(added!.object)
    expect(specOf(changes[0]!.object).template).toBe(specOf(added!.object).template)
  })

  it('tells a new object of a name from a new version', () => {
    const store = new Store()
    store.put(deployment('a'))
    const other = deployment('a')

    const changes = store.put({ ...other, metadata: { ...other.metadata, uid: 'another' } })

    expect(changes.map(({ type }) => type)).toEqual(['deleted', 'added'])
  })
})
