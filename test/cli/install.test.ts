/** `kaos install --kind` up to the programs that it runs, which only note here what they are asked: no machine of the tests has kind. */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { Folder } from '../support/cli.ts'

let folder: Folder
let bin: string
beforeEach(async () => {
  folder = await Folder.create()
  bin = join(folder.path, 'bin')
  await mkdir(bin)
  await writeFile(join(folder.path, 'image.tar'), '')
})
afterEach(() => folder.remove())

/** Notes its arguments, then does as `then` says. */
async function program(name: string, then = ''): Promise<void> {
  const file = join(bin, name)
  await writeFile(file, `#!/bin/sh\necho "${name} $*" >> "${join(folder.path, 'ran')}"\n${then}\n`)
  await chmod(file, 0o755)
}

const ran = async () => (await readFile(join(folder.path, 'ran'), 'utf8')).trim().split('\n')
const install = (...more: readonly string[]) =>
  folder.kaos(['install', '--kind', '--archive', 'image.tar', ...more], { env: { PATH: bin } })

describe('kaos install --kind', () => {
  it('makes a cluster, loads the image, installs the chart and applies the smallest sample, in this order', async () => {
    await program('kind')
    await program('helm', 'echo of helm')
    await program('kubectl')

    const { code, stdout } = await install('--json')

    const { context, sample, next } = JSON.parse(stdout) as { context: string; sample: string; next: readonly string[] }
    const agents = parseAllDocuments(await readFile(sample, 'utf8')).map((document) => document.toJS())
    const chart = join(import.meta.dirname, '..', '..', 'manifests', 'chart')
    expect(code).toBe(0)
    expect(await ran()).toEqual([
      'kind get clusters',
      'kind create cluster --name kaos',
      `kind load image-archive ${join(folder.path, 'image.tar')} --name kaos`,
      `helm upgrade --install kaos ${chart} --kube-context kind-kaos --namespace kaos-system --create-namespace --wait --timeout 10m`,
      `kubectl --context kind-kaos apply --filename ${sample}`,
    ])
    expect(context).toBe('kind-kaos')
    expect(agents.map(({ kind, metadata }) => `${kind} ${metadata.name}`)).toEqual([
      'ModelAPI simple-models',
      'MCPServer echo',
      'Agent assistant',
    ])
    expect(next.join('\n')).toMatch(/patch modelapi simple-models [\s\S]*task send assistant /)
  })

  it('leaves a cluster that is there as it is', async () => {
    await program('kind', '[ "$1" = get ] && printf "other\\nkaos\\n"; exit 0')
    await program('helm')
    await program('kubectl')

    const { code, stdout } = await install()

    expect(code).toBe(0)
    expect((await ran()).filter((line) => line.startsWith('kind create'))).toEqual([])
    expect(stdout).toContain('kaos task send assistant')
  })

  it('does nothing when a program is not there, and says where it is had', async () => {
    await program('kubectl')

    const { code, stderr } = await install()

    expect(code).toBe(2)
    expect(stderr).toContain('PATH has no "kind" (https://kind.sigs.k8s.io), no "helm" (https://helm.sh)')
    await expect(ran()).rejects.toThrow('ENOENT')
  })

  it('ends at the step that fails, with the words of its program', async () => {
    await program('kind')
    await program('helm', 'echo "the release is locked" >&2; exit 3')
    await program('kubectl')

    const { code, stderr } = await install()

    expect(code).toBe(1)
    expect(stderr).toContain('the release is locked')
    expect(stderr).toMatch(/could not run "helm upgrade .*": it ended with 3/)
    expect((await ran()).at(-1)).toMatch(/^helm /)
  })
})
