import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Folder } from '../support/cli.ts'

describe('kaos demo', () => {
  let folder: Folder
  beforeAll(async () => {
    folder = await Folder.create()
  })
  afterAll(() => folder.remove())

  it('kills its host in the middle, repeats nothing, replays identically and shows what a changed prompt changes', async () => {
    const { code, stdout } = await folder.kaos(['demo'])

    expect(code).toBe(0)
    for (const told of [
      'kill -9 of the agent host',
      'taken over by host',
      'offline model',
      'resumed after kill -9: 0 finished steps repeated',
      'identical: ',
      'diverged at entry ',
      '- recorded: Then answer in at most five sentences',
      '+ got:      Then answer in at most three sentences',
    ]) {
      expect(stdout).toContain(told)
    }
  })

  it('takes a task of your own, and counts what it shows', async () => {
    const { code, stdout } = await folder.kaos(['demo', 'Which heat pump is the quietest?', '--json'])

    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      killed: true,
      repeated: 0,
      result: { state: 'completed' },
      replay: { verdict: 'identical' },
      changed: { verdict: 'diverged', cause: 'prompt' },
    })
    expect(JSON.parse(stdout).finished).toBeGreaterThan(0)
  })
})
