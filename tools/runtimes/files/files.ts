/** Runtime `files`: tools that list, read and, where the manifest says so, write text files below one folder. */
import { z } from 'zod'
import { defineTool } from '../../own/define.ts'
import { ownToolServer } from '../../own/mcp-server.ts'
import type { NamedTool } from '../../own/module.ts'
import type { Channel, ChannelOptions } from '../channel.ts'
import { openInProcess } from '../in-process.ts'
import { listFolder, readText, writeText } from './entries.ts'
import { FILES_LIMITS } from './limits.ts'
import { Root } from './root.ts'

export interface FilesRuntime {
  readonly runtime: 'files'
  /** Absolute path of the folder. */
  readonly root: string
  /** Whether there is a tool that writes. */
  readonly writable: boolean
}

const path = z.string().max(FILES_LIMITS.pathLengthMax)

/** Throws when the folder is not there. */
export async function openFiles(runtime: FilesRuntime, { log }: ChannelOptions): Promise<Channel> {
  const root = await Root.open(runtime.root)
  return openInProcess(ownToolServer('files', fileTools(root, runtime.writable), { log }).server)
}

function fileTools(root: Root, isWritable: boolean): NamedTool[] {
  const list = defineTool({
    name: 'list_files',
    description: 'Lists the files and folders of one folder.',
    input: z.strictObject({ path: path.default('').describe('Folder, such as "notes/2026". Default: the root folder') }),
    output: z.object({
      entries: z.array(z.object({ name: z.string(), kind: z.enum(['file', 'folder']), bytes: z.number().optional() })),
      isCut: z.boolean().describe(`Whether there are more than ${FILES_LIMITS.entriesMax}`),
    }),
    readOnlyHint: true,
    idempotentHint: true,
    run: async (input) => {
      const { entries, isCut } = await listFolder(root, input.path)
      return { entries: [...entries], isCut }
    },
  })
  const read = defineTool({
    name: 'read_file',
    description: `Reads a text file of at most ${FILES_LIMITS.fileBytesMax} bytes.`,
    input: z.strictObject({ path: path.describe('File, such as "notes/today.md"') }),
    readOnlyHint: true,
    idempotentHint: true,
    run: (input) => readText(root, input.path),
  })
  const write = defineTool({
    name: 'write_file',
    description: 'Writes a text file in full: a new one, or over the one that is there. Folders on the way are made.',
    input: z.strictObject({ path: path.describe('File, such as "notes/today.md"'), content: z.string() }),
    output: z.object({ bytes: z.number() }),
    idempotentHint: true,
    destructiveHint: true,
    run: (input, { idempotencyKey }) => writeText(root, input.path, input.content, idempotencyKey),
  })
  return [list, read, ...(isWritable ? [write] : [])].map((tool) => ({ name: tool.name!, tool }))
}
