/** Writes files with tools, as a user would, outside of the checkout. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const define = new URL('../../tools/own/define.ts', import.meta.url).href
const zod = import.meta.resolve('zod')

/** `body` finds `tool` and `z` imported. A new folder each time, because a file is imported once per process. */
export function toolFile(body: string, name = 'sample.ts'): string {
  const file = join(mkdtempSync(join(tmpdir(), 'kaos-tools-')), name)
  writeFileSync(file, `import { defineTool as tool } from '${define}'\nimport { z } from '${zod}'\n${body}\n`)
  return file
}
