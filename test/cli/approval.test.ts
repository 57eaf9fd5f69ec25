/** A task that waits for a person, as somebody with a terminal sees it. */
import { cpSync, symlinkSync, writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Folder } from '../support/cli.ts'

const root = join(import.meta.dirname, '..', '..')
const MANIFEST = `
apiVersion: kaos.tools/v1alpha1
kind: Agent
metadata: { name: approval }
spec: { machineRef: { path: ./approval.ts } }
`

let folder: Folder
beforeAll(async () => {
  folder = await Folder.create()
  await mkdir(join(folder.path, 'node_modules'))
  for (const name of ['kaos-actors', 'xstate'])
    symlinkSync(join(root, 'node_modules', name), join(folder.path, 'node_modules', name))
  cpSync(join(root, 'docs', 'examples', 'machines', 'approval.ts'), join(folder.path, 'approval.ts'))
  writeFileSync(join(folder.path, 'team.yaml'), MANIFEST)
  await folder.start(['up', '-f', 'team.yaml', '--port', '0'], 'Ctrl-C ends it')
})
afterAll(() => folder.remove())

const show = async (...more: string[]) => (await folder.kaos(['trace', 'show', 'approval_o-7', ...more])).stdout
/** Until the trace shows a text: a signal is stored before it is heard. */
async function until(text: string): Promise<string> {
  for (let looks = 0; looks < 20; looks++) {
    const shown = await show()
    if (shown.includes(text)) return shown
  }
  throw new Error(`the trace never showed "${text}"`)
}

describe('a task that waits for a person', () => {
  it('says so, says which signals it heard, and goes on with the right one', { timeout: 60_000 }, async () => {
    await folder.kaos(['task', 'send', 'approval', '{"input":{"order":"o-7","cents":5000}}', '--id', 'o-7'])
    expect(await until('waits for a signal')).toContain('working')

    const mistyped = await folder.kaos(['task', 'signal', 'approval_o-7', 'approve', '{atMostCents:1}'])
    expect(mistyped).toMatchObject({ code: 2, stderr: expect.stringContaining('begins like JSON and is none') })

    await folder.kaos(['task', 'signal', 'approval_o-7', 'aprove', '{"atMostCents":1}'])
    await until('signal aprove, which its state does not take')

    await folder.kaos(['task', 'signal', 'approval_o-7', 'approve', '{"atMostCents":2000}'])
    const ended = await folder.kaos(['task', 'watch', 'approval_o-7', '--json'])
    expect(JSON.parse(ended.stdout)).toMatchObject({ output: 'paid 2000 cents for order o-7, receipt approval_o-7_2-0' })
    expect(await show('--content')).toMatch(/asked {4}\{"order":"o-7","cents":2000\}\n.*answered paid 2000 cents/)
  })

  it('is canceled by a word', { timeout: 60_000 }, async () => {
    await folder.kaos(['task', 'send', 'approval', '{"input":{"order":"o-8","cents":1}}', '--id', 'o-8'])
    for (let looks = 0; looks < 20; looks++) if ((await folder.kaos(['task', 'cancel', 'approval_o-8'])).code === 0) break

    const ended = await folder.kaos(['task', 'watch', 'approval_o-8', '--json'])
    expect(JSON.parse(ended.stdout)).toMatchObject({ state: 'canceled' })
    expect(await folder.kaos(['task', 'cancel', 'approval_o-8'])).toMatchObject({ code: 2 })
  })

  it('names the signal at which its machine throws', { timeout: 60_000 }, async () => {
    await folder.kaos(['task', 'send', 'approval', '{"input":{"order":"o-9","cents":1}}', '--id', 'o-9'])
    for (let looks = 0; looks < 20; looks++)
      if ((await folder.kaos(['task', 'signal', 'approval_o-9', 'approve'])).code === 0) break

    const ended = await folder.kaos(['task', 'watch', 'approval_o-9', '--json'])
    expect(JSON.parse(ended.stdout).failure.message).toMatch(
      /^machine "approval" at signal "approve": Cannot read properties of null/,
    )
  })
})
