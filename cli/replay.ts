/** `kaos replay`: re-executes a recorded trace on today's code and manifests, without any call. */
import { resolve } from 'node:path'
import type { NatsBus } from '../bus/open.ts'
import { KaosError } from '../bus/wire/errors.ts'
import type { System } from '../manifests/load.ts'
import { loadTrace } from '../replay/load.ts'
import { withoutNetwork } from '../replay/offline.ts'
import { replayTrace } from '../replay/replay.ts'
import { exitCodeOfVerdict, type Verdict, verdictJson, verdictLine } from '../replay/verdict.ts'
import { findTrace } from './client/lookup.ts'
import { type ClientOptions, withBus } from './client/session.ts'
import { loadSystem } from './running/declared.ts'
import { describeToday } from './running/machines.ts'
import { print, printJson } from './view/terminal.ts'

export async function replayCommand(
  id: string,
  options: ClientOptions & { readonly file?: readonly string[]; readonly json?: boolean },
): Promise<number> {
  return withBus(options, async ({ bus, run }) => {
    const files = options.file?.map((file) => resolve(file)) ?? run?.manifests
    if (!files)
      throw new KaosError(
        'usage',
        'could not tell which manifests to replay with: no "kaos up" runs in this folder, so name them with -f FILE',
      )
    const verdict = await replay(bus, await findTrace(bus, id), loadSystem(files))
    if (options.json) printJson(verdictJson(verdict))
    else print(verdictLine(verdict))
    return exitCodeOfVerdict(verdict)
  })
}

/** Reads and loads everything first, then decides with the network off. */
export async function replay(bus: NatsBus, traceId: string, system: System): Promise<Verdict> {
  const loaded = await loadTrace(bus, traceId)
  const today = await describeToday(system, bus.catalog)
  return withoutNetwork(() => replayTrace(loaded, today))
}
