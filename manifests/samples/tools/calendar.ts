/** The appointments of a day, the same every week: put your own calendar here. */
import { tool, z } from 'kaos-actors'
import { weekday } from './weekday.ts'

const APPOINTMENTS: Readonly<Partial<Record<z.infer<typeof weekday>, string>>> = {
  monday: '09:00 to 10:00 team meeting',
  wednesday: '15:00 to 15:30 dentist',
  saturday: '12:00 to 13:00 keys of the flat',
}

export const mcp_calendar = tool({
  description: 'Tells the appointments of a day of this week.',
  input: z.object({ day: weekday }),
  readOnlyHint: true,
  run: ({ day }) => APPOINTMENTS[day] ?? 'none',
})
