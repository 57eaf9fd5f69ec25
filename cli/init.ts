/** `kaos init`: a folder with a team to begin with: a coordinator, a tool and a machine of one's own, and tests that need no key. */
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { KaosError } from '../bus/wire/errors.ts'
import { EXIT } from './process/exit-codes.ts'
import { paint, print, printJson } from './view/terminal.ts'

const TEMPLATE = fileURLToPath(new URL('../docs/examples/team', import.meta.url))
const PACKAGE = fileURLToPath(new URL('../package.json', import.meta.url))

/** Writes nothing into a folder that holds anything. */
export async function init(folder: string, options: { readonly json?: boolean }): Promise<number> {
  const target = resolve(folder)
  if (target.split(sep).includes('node_modules'))
    throw new KaosError('usage', `the folder "${target}" lies in node_modules, where Node runs no TypeScript: name another one`)
  const there = await readdir(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw new KaosError('folder_unusable', `could not look into "${target}": ${error.code}`, { cause: error })
  })
  if (there && there.length > 0)
    throw new KaosError(
      'usage',
      `the folder "${target}" holds ${there.slice(0, 3).join(', ')}${there.length > 3 ? ', …' : ''}: name an empty or a new one`,
    )
  try {
    await mkdir(target, { recursive: true })
    await cp(TEMPLATE, target, {
      recursive: true,
      filter: (source) => !/node_modules|[\\/]\.kaos/.test(relative(TEMPLATE, source)),
    })
    await writeFile(resolve(target, 'package.json'), `${JSON.stringify(await manifest(target), null, 2)}\n`)
    await writeFile(resolve(target, '.gitignore'), 'node_modules/\n.kaos/\n')
  } catch (error) {
    // Half a team helps nobody, and the next try would find the folder in use.
    for (const name of there ? await readdir(target) : []) await rm(resolve(target, name), { recursive: true, force: true })
    if (!there) await rm(target, { recursive: true, force: true })
    throw new KaosError('folder_unusable', `could not write into "${target}": ${(error as Error).message}`, { cause: error })
  }
  const files = (await readdir(target, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())
  const names = files.map((file) => relative(target, resolve(file.parentPath, file.name))).sort()
  if (options.json) printJson({ folder: target, files: names })
  else describe(folder, names)
  return EXIT.ok
}

async function manifest(target: string): Promise<object> {
  const { name, version, peerDependencies, devDependencies } = JSON.parse(await readFile(PACKAGE, 'utf8')) as {
    readonly name: string
    readonly version: string
    readonly peerDependencies: Readonly<Record<string, string>>
    readonly devDependencies?: Readonly<Record<string, string>>
  }
  return {
    name:
      basename(target)
        .toLowerCase()
        .replaceAll(/[^a-z0-9-]+/g, '-')
        .replace(/^-+|-+$/g, '') || 'team',
    private: true,
    type: 'module',
    scripts: { up: 'kaos up -f .', test: 'node --test' },
    dependencies: { [name]: await specOf(name, target, `^${version}`), ...peerDependencies },
    devDependencies: { '@types/node': devDependencies?.['@types/node'] ?? '^24.0.0' },
    engines: { node: '>=24' },
  }
}

/** What the folder above installed, or what is published: a team inside a folder that has a tarball must install that too. */
async function specOf(name: string, target: string, published: string): Promise<string> {
  for (let folder = dirname(target); ; folder = dirname(folder)) {
    const text = await readFile(resolve(folder, 'package.json'), 'utf8').catch(() => '{}')
    const spec = dependencyIn(text, name)
    if (spec?.startsWith('file:')) return `file:${relative(target, resolve(folder, spec.slice('file:'.length)))}`
    if (spec !== undefined) return spec
    if (folder === dirname(folder)) return published
  }
}

/** Whatever else stands in somebody's package.json is not ours to judge. */
function dependencyIn(manifest: string, name: string): string | undefined {
  try {
    const { dependencies } = JSON.parse(manifest) as { readonly dependencies?: Readonly<Record<string, string>> }
    return dependencies?.[name]
  } catch {
    return undefined
  }
}

function describe(folder: string, files: readonly string[]): void {
  print(`${paint('bold', folder)}: ${files.join(', ')}`)
  print('\nNext:')
  print(`  cd ${folder}`)
  print('  npm test                       # offline, no key needed')
  print('  npx kaos up -f .               # and in another terminal, in the same folder:')
  print('  npx kaos task send coordinator "What do I take to Lisbon?" --wait')
  print('\nWith a key of your own: export OPENAI_API_KEY=… before "kaos up".')
}
