/**
 * `npm run pack`: compiles the product to JavaScript, lays out a package that needs no build, and packs it. Node refuses to strip types under
 * node_modules, so what users install is JavaScript with declarations; their own machines and tools run as TypeScript, as they are.
 * `npm run pack -- FOLDER` puts it there instead of in `dist`.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const root = join(import.meta.dirname, '..')
const dist = resolve(process.argv[2] ?? join(root, 'dist'))
const run = (command: string, args: readonly string[], cwd = root) =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })

interface Manifest {
  readonly [field: string]: unknown
  readonly exports: Readonly<Record<string, string>>
  readonly bin: Readonly<Record<string, string>>
}

rmSync(dist, { recursive: true, force: true })
run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'scripts/tsconfig.pack.json', '--outDir', dist])
for (const file of readdirSync(dist, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.d.ts'))) {
  // The compiler rewrites the imports of the code, not those of the declarations.
  rewrite(file, (text) => text.replaceAll(/((?:from|import\() ?['"]\.[^'"]*)\.ts(['"])/g, '$1.js$2'))
}
mkdirSync(join(dist, 'cli'), { recursive: true })
cpSync(join(root, 'cli/kaos.js'), join(dist, 'cli/kaos.js'))
rewrite('cli/kaos.js', (text) => text.replace("import('./main.ts')", "import('./main.js')"))
const COPIED = [
  ...['samples', 'observability', 'chart', 'install', 'crds'].map((folder) => `manifests/${folder}`),
  ...['docs', 'README.md', 'LICENSE', 'CHANGELOG.md'],
]
for (const path of COPIED) {
  cpSync(join(root, path), join(dist, path), {
    recursive: true,
    // What is compiled is there already.
    filter: (source) => !/[\\/](\.kaos|node_modules|__pycache__)|samples.*\.ts$/.test(source.slice(root.length)),
  })
}
// Node runs no TypeScript in node_modules.
rewrite('manifests/samples/day-out.yaml', (text) => text.replaceAll(/(params: \.\/tools\/\w+)\.ts/g, '$1.js'))
writeFileSync(join(dist, 'package.json'), `${JSON.stringify(packageManifest(), null, 2)}\n`)

const [packed] = JSON.parse(run('npm', ['pack', '--json', '--pack-destination', dist], dist)) as {
  filename: string
  size: number
  entryCount: number
}[]
console.log(`${join(dist, packed!.filename)}: ${packed!.entryCount} files, ${Math.round(packed!.size / 1024)} KiB`)

/** The project's own, without what only building it needs, and with JavaScript where it names TypeScript. */
function packageManifest(): object {
  const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest
  const { scripts: _scripts, devDependencies: _dev, optionalDependencies: _node, private: _private, exports, ...rest } = own
  const entries = Object.entries(exports).map(([name, file]) => [
    name,
    file.endsWith('.ts') ? { types: file.replace(/\.ts$/, '.d.ts'), default: file.replace(/\.ts$/, '.js') } : file,
  ])
  return { ...rest, exports: Object.fromEntries(entries), engines: { node: '>=24' } }
}

function rewrite(file: string, change: (text: string) => string): void {
  const path = join(dist, file)
  writeFileSync(path, change(readFileSync(path, 'utf8')))
}
