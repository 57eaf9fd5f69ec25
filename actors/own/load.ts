/** Loads the file of a machine: a TypeScript or JavaScript module whose default export is the machine. */
import { readFile } from 'node:fs/promises'
import { KaosError, messageOf } from '../../bus/wire/errors.ts'
import { extensionMistake, importMistake, importUserModule } from '../../telemetry/user/module.ts'
import { type OwnMachine, registerOwnMachine } from './register.ts'

/** Of the import, with all that it imports. */
const LOAD_TIMEOUT_MS = 30_000

/**
 * Throws `machine_file` when there is nothing to load or the import takes longer than `timeoutMs` (default 30 s), and what `registerOwnMachine`
 * throws. A module is loaded once per process.
 */
export async function loadMachine(
  name: string,
  file: string,
  { timeoutMs = LOAD_TIMEOUT_MS }: { readonly timeoutMs?: number } = {},
): Promise<OwnMachine> {
  const refuse = (why: string, cause?: unknown) =>
    new KaosError('machine_file', `could not load the machine of agent "${name}" from "${file}": ${why}`, { cause })
  const misnamed = extensionMistake(file)
  if (misnamed) throw refuse(misnamed)
  const source = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw refuse(error.code === 'ENOENT' ? 'there is no such file' : messageOf(error), error)
  })
  const module = await importUserModule(file, { agent: name }, timeoutMs).catch((error: unknown) => {
    // What the file makes while it is loaded, such as a local effect, says by itself what is wrong.
    throw error instanceof KaosError ? error : refuse(importMistake(error, messageOf(error), file), error)
  })
  if (module.default === undefined) {
    const named = Object.keys(module).join(', ')
    throw refuse(`the machine must be its default export, and it exports ${named === '' ? 'nothing' : `${named} but no default`}`)
  }
  return registerOwnMachine(name, module.default, { source })
}
