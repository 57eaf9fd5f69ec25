import { describe, expect, it } from 'vitest'
import { ApiError } from '../../operator/kube/api-error.ts'
import type { KubeClient } from '../../operator/kube/client.ts'
import type { KubeObject } from '../../operator/kube/object.ts'
import { mountsOf, withMissingMounts } from '../../operator/mounts.ts'
import { readWorkload } from '../../operator/status/workload.ts'
import { agent, child, installation, planAgent } from './desired/cluster.ts'

const broker = {
  url: 'tls://nats.test:4222',
  credentials: { secretName: 'nats-creds' },
  ca: { configMapName: 'nats-ca' },
}
const deployment: KubeObject = {
  ...child(planAgent(agent('writer'), {}, { installation: installation({ broker }) }), 'Deployment')!,
  status: {},
}
const { signal } = new AbortController()
const stuck = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p' },
  status: {
    phase: 'Pending',
    conditions: ['PodScheduled=True', 'PodReadyToStartContainers=False'].map((condition) => {
      const [type, status] = condition.split('=')
      return { type, status, lastTransitionTime: '2026-01-01T00:00:00Z' }
    }),
  },
}

/** An API server where everything is but what is `missing`. */
function clusterWithout(...missing: readonly string[]) {
  const asked: string[] = []
  const list: KubeClient['list'] = async ({ kind }, { fieldSelector = '', isMetadataOnly } = {}) => {
    const name = fieldSelector.replace('metadata.name=', '')
    asked.push(`${kind} ${name}${isMetadataOnly ? '' : ' with its content'}`)
    const items = missing.includes(name) ? [] : [{ apiVersion: 'v1', kind, metadata: { name } }]
    return { resourceVersion: '1', items }
  }
  return { asked, client: { list } }
}

it('mounts of a pod are those that have to be there, each once', () => {
  const volumes = [
    { name: 'a', secret: { secretName: 'one' } },
    { name: 'b', configMap: { name: 'two', optional: true } },
    {
      name: 'c',
      projected: { sources: [{ secret: { name: 'one' } }, { configMap: { name: 'three' } }, { serviceAccountToken: {} }] },
    },
    { name: 'd', emptyDir: {} },
    { name: 'e', secret: { secretName: 'four', optional: true } },
  ]
  const found = mountsOf({ ...deployment, spec: { template: { spec: { volumes } } } })

  expect(found.map(({ resource, name }) => `${resource.kind} ${name}`)).toEqual(['Secret one', 'ConfigMap three'])
})

describe('a pod that its node does not prepare', () => {
  it('is told with what it mounts and what is not there', async () => {
    const { client, asked } = clusterWithout('nats-creds', 'nats-ca')

    const { problem } = await withMissingMounts(readWorkload(deployment, [stuck]), deployment, { client, signal })

    expect(problem).toEqual({
      reason: 'ContainerNotCreated',
      message: 'its pods mount Secret "nats-creds" and ConfigMap "nats-ca", which are not in namespace "team": create them',
    })
    expect(asked).toEqual(['ConfigMap agent-writer', 'Secret nats-creds', 'ConfigMap nats-ca'])
  })

  it('is told without where all is there, or the API server does not say', async () => {
    const workload = readWorkload(deployment, [stuck])
    const list = async () => Promise.reject(new ApiError('list secrets', { code: 403 }))

    expect(await withMissingMounts(workload, deployment, { client: clusterWithout().client, signal })).toBe(workload)
    expect(await withMissingMounts(workload, deployment, { client: { list }, signal })).toBe(workload)
    expect(workload.problem?.reason).toBe('PodNotPrepared')
  })

  it('is the only reason to ask', async () => {
    const { client, asked } = clusterWithout('nats-creds')

    await withMissingMounts(readWorkload(deployment), deployment, { client, signal })

    expect(asked).toEqual([])
  })
})
