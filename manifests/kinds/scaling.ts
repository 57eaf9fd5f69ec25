/** How many pods an agent has: the settings of the scaler. */
import { z } from 'zod'
import type { DeepReadonly } from '../metadata.ts'
import { withRules } from '../rules.ts'

/** More pods of one agent than this are a mistake of the one who scales. */
export const replicasMax = 1_000

export const scalingSchema = withRules(
  z.strictObject({
    scaler: z
      .enum(['Builtin', 'External'])
      .default('Builtin')
      .describe(
        'Who decides how many pods there are: the operator, by the backlog (Builtin), or whoever writes spec.replicas through the scale subresource, such as an HPA, KEDA or "kubectl scale" (External), which needs none of the fields beside this one. Default "Builtin".',
      ),
    minReplicas: z
      .int()
      .min(0)
      .max(replicasMax)
      .default(0)
      .describe('Fewest pods; with 0 there is none while nothing waits, and the next message starts one. Default 0.'),
    maxReplicas: z.int().min(1).max(replicasMax).default(10).describe('Most pods. Default 10.'),
    targetBacklogPerReplica: z
      .int()
      .min(1)
      .max(10_000)
      .default(32)
      .describe(
        'For how many messages that wait or are in hand there should be one pod, which works on up to 64 tasks at once. Default 32.',
      ),
    cooldownSeconds: z
      .int()
      .min(0)
      .max(86_400)
      .default(120)
      .describe('How long nothing has to wait or be in hand before the last pod goes, in seconds. Default 120.'),
  }),
  [
    {
      fields: ['minReplicas', 'maxReplicas'],
      allowed: 'at most maxReplicas',
      holds: ({ minReplicas, maxReplicas }) => minReplicas <= maxReplicas,
      cel: 'self.minReplicas <= self.maxReplicas',
    },
  ],
)

export type Scaling = DeepReadonly<z.output<typeof scalingSchema>>
