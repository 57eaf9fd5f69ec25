/** The HTTP door of an agent's pod, as people reach it who come from KAOS. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import OpenAI from 'openai'
import { expect, it, onTestFinished } from 'vitest'
import type { KubeObject } from '../../operator/kube/object.ts'
import { sharedPlane } from '../testplane/shared.ts'
import { OperatorStand } from './stand/stand.ts'

const plane = sharedPlane()
const simple = readFileSync(join(import.meta.dirname, '..', '..', 'manifests', 'samples', 'simple.yaml'), 'utf8')
const MINUTES = 60_000

function withOnePod(object: KubeObject): KubeObject {
  if (object.kind !== 'Agent') return object
  return { ...object, spec: { ...(object.spec as object), scaling: { minReplicas: 1 } } }
}

it('answers the client of OpenAI at a pod that is always there', { timeout: 2 * MINUTES }, async () => {
  const stand = await OperatorStand.create(plane, 'http')
  onTestFinished(() => stand[Symbol.asyncDispose]())
  const pods = await stand.processPods()
  await stand.operator()
  await stand.apply(simple, withOnePod)
  await stand.until('Deployment', 'agent-assistant', ({ status }) => status.readyReplicas === 1, MINUTES)
  const service = await plane.api.get(stand.path('Service', 'agent-assistant'))
  const pod = pods.list().find(({ name }) => name.startsWith('agent-assistant-'))!
  const client = new OpenAI({ apiKey: 'none', baseURL: `http://${pod.ip}:8000/v1` })

  const { data, response } = await client.chat.completions
    .create({ model: 'assistant', messages: [{ role: 'user', content: 'Echo the words: hello world' }] })
    .withResponse()

  expect(service.spec.ports).toMatchObject([{ port: 8000 }])
  expect(data.choices[0]!.message.content).toContain('hello world')
  expect(response.headers.get('kaos-task')).toBeTruthy()
  expect(await stand.messagesIn('kaos_results')).toBe(1)
})
