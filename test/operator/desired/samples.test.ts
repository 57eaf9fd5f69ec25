import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { parseManifests } from '../../../manifests/load.ts'
import type { Plan } from '../../../operator/desired/plan.ts'
import { type Cluster, childrenOf, configText, planAgent, planApi, planServer, pod, sample } from './cluster.ts'

const files = ['1-echo.yaml', '2-workers.yaml', '3-hierarchy.yaml', '4-proxy.yaml'] as const

function plansOf(cluster: Cluster): readonly Plan[] {
  return [
    ...cluster.modelApis.map((api) => planApi(api)),
    ...cluster.mcpServers.map((server) => planServer(server)),
    ...cluster.agents.map((agent) => planAgent(agent, cluster)),
  ]
}

describe('what stands behind the samples of KAOS', () => {
  it.each(files)('is the same as before for %s', async (file) => {
    const plans = plansOf(sample(file))

    const objects = plans.flatMap((plan) => [...childrenOf(plan), ...(plan.is === 'children' ? plan.secrets : [])])
    const text = objects.map((object) => stringify(object, { lineWidth: 0, aliasDuplicateObjects: false })).join('---\n')
    await expect(text).toMatchFileSnapshot(`children/${file}`)
  })

  it.each(files)('is loaded by the pods of %s, each from the manifest that it is given', (file) => {
    const cluster = sample(file)
    const plans = [
      ...cluster.mcpServers.map((server) => planServer(server)),
      ...cluster.agents.map((agent) => planAgent(agent, cluster)),
    ]

    const systems = plans.map((plan) => parseManifests([{ file: 'kaos.yaml', text: configText(plan) }]))

    expect(systems.flatMap(({ warnings }) => warnings.filter((warning) => /plain text|passed over/.test(warning)))).toEqual([])
    expect(systems.map(({ namespaces }) => namespaces.length)).toEqual(plans.map(() => 1))
  })

  it('is the same in whatever order the dependencies are found', () => {
    const cluster = sample('3-hierarchy.yaml')
    const expected = JSON.stringify(cluster.agents.map((agent) => planAgent(agent, cluster)))
    const shuffled = <Element>(list: readonly Element[]) => fc.shuffledSubarray([...list], { minLength: list.length })

    fc.assert(
      fc.property(
        shuffled(cluster.agents),
        shuffled(cluster.mcpServers),
        shuffled(cluster.modelApis),
        (agents, mcpServers, modelApis) => {
          const plans = cluster.agents.map((agent) => planAgent(agent, { agents, mcpServers, modelApis }))

          expect(JSON.stringify(plans)).toBe(expected)
        },
      ),
      { numRuns: 50 },
    )
  })

  it.each(files)('has nothing that refers to a volume, an account or a container that is not there, in %s', (file) => {
    const pods = plansOf(sample(file)).map(pod)

    for (const { volumes, containers, initContainers = [] } of pods) {
      const names = volumes.map(({ name }) => name)
      expect(new Set(names).size).toBe(names.length)
      for (const { volumeMounts, env } of [...containers, ...initContainers]) {
        expect(volumeMounts.map(({ name }) => name).filter((name) => !names.includes(name))).toEqual([])
        expect(new Set(env.map(({ name }) => name)).size).toBe(env.length)
      }
    }
  })

  it.each(files)('passes Pod Security "restricted" and mounts no token, in %s', (file) => {
    const pods = plansOf(sample(file)).map(pod)

    for (const { securityContext, containers, initContainers = [], automountServiceAccountToken } of pods) {
      expect(automountServiceAccountToken).toBe(false)
      expect(securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } })
      for (const each of [...containers, ...initContainers]) {
        expect(each.securityContext).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        })
      }
    }
  })
})
