/** What `import … from 'kaos-actors/replay'` offers: a trace of a running system re-executed by a program, as a regression test does. */
import { resolve } from 'node:path'
import { findTrace } from '../cli/client/lookup.ts'
import { withBus } from '../cli/client/session.ts'
import { replay } from '../cli/replay.ts'
import { loadSystem } from '../cli/running/declared.ts'
import type { Verdict } from '../replay/verdict.ts'

export { type Verdict, verdictLine } from '../replay/verdict.ts'

/**
 * Re-executes a recorded trace on today's manifests and machines, without any call. The broker is that of `NATS_URL` or `NATS_CONTEXT`, else
 * the one of the `kaos up` of this folder. Throws `unknown_trace`, `broker_unreachable`, and ManifestError for manifests that cannot be read.
 *
 * @param trace Trace id, task id, or "last".
 * @param manifests Files or folders.
 */
export async function replayTrace(
  trace: string,
  manifests: string | readonly string[],
  options: { readonly namespace?: string; readonly context?: string } = {},
): Promise<Verdict> {
  const system = loadSystem([manifests].flat().map((file) => resolve(file)))
  return withBus(options, async ({ bus }) => replay(bus, await findTrace(bus, trace), system))
}
