import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drive, runSystem } from 'kaos-actors/testing'
import packer from '../machines/packer.ts'
import forecast from '../tools/forecast.ts'

test('the packer packs for the weather', () => {
  const actor = drive(packer, 'Oslo')

  assert.deepEqual(actor.pending, [{ effect: 'forecast', input: { city: 'Oslo' } }])
  actor.answer('forecast', { city: 'Oslo', celsius: 3, rain: true })
  actor.answer('pack', 'a coat and an umbrella')

  assert.deepEqual(actor.outcome, { state: 'completed', output: 'For Oslo take a coat and an umbrella.' })
})

test('the forecast names its city', async () => {
  const context = { idempotencyKey: 'test', signal: new AbortController().signal, traceparent: '' }

  assert.equal((await forecast.run({ city: 'Lisbon' }, context)).city, 'Lisbon')
})

test('the whole team answers, and its trace replays the same', async () => {
  await using system = await runSystem(`${import.meta.dirname}/../team.yaml`)

  const result = await system.ask('coordinator', 'What do I take to Lisbon?')

  assert.equal(result.state, 'completed')
  assert.match(JSON.stringify(result), /For Lisbon take a shirt/)
  assert.equal((await system.replay(result.trace)).verdict, 'identical')
})
