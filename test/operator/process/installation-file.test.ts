import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { readInstallationFile } from '../../../operator/process/installation-file.ts'

function file(text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'kaos-test-installation-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'installation.yaml')
  writeFileSync(path, text)
  return path
}

const YAML = `
namespace: kaos-system
images: { host: kaos:1, litellm: litellm:1, ollama: ollama:1 }
broker: { url: "nats://nats:4222" }
`

it('reads YAML, and JSON with the same meaning', () => {
  const json = {
    namespace: 'kaos-system',
    images: { host: 'kaos:1', litellm: 'litellm:1', ollama: 'ollama:1' },
    broker: { url: 'nats://nats:4222' },
  }

  expect(readInstallationFile(file(YAML))).toEqual(readInstallationFile(file(JSON.stringify(json))))
})

it.each([
  ['a file that is not there', () => '/nowhere/installation.yaml', 'installation.yaml'],
  ['what is no YAML', () => file('{'), 'could not read the configuration'],
  ['a value that cannot be meant', () => file(YAML.replace('kaos-system', 'Kaos System')), 'namespace: lower-case letters'],
  ['too short a retention', () => file(`${YAML}retention: { days: 6 }`), 'retention.days: whole days from 7 to 36500'],
])('names %s', (_what, path, words) => {
  expect(() => readInstallationFile(path())).toThrow(
    expect.objectContaining({ code: 'bad_setting', message: expect.stringContaining(words) }),
  )
})
