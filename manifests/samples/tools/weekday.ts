/** How the tools of this folder name a day. */
import { z } from 'kaos-actors'

export const weekday = z
  .enum(['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'])
  .describe('Day of this week, such as "saturday"')
