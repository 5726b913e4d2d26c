// Calls the API with the client that openapi-fetch makes of the generated types. The compiler checks each use.
//
// node calls.js URL BODIES: calls every method once, in the order of BODIES (a JSON list of path and body), and prints a
// JSON list of path, HTTP status and reply.

import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[]; stdout: { write(text: string): void } };

const [url, bodies] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl: url });

type Status = components["schemas"]["Invocation"]["status"];
const finished: Status[] = ["SUCCEEDED", "FAILED", "ABORTED"];

/** Returns how long the invocations of a job took, in milliseconds, as a program of a user would. */
async function durations(project: string, job: string): Promise<number[]> {
  const { data, error } = await client.POST("/api/v1/scheduler.Scheduler/GetInvocations", {
    body: { jobRef: { project, job }, pageSize: 10 },
  });
  if (error) throw new Error(`${error.code}: ${error.message}`);
  return data.invocations
    .filter((invocation) => finished.includes(invocation.status))
    .map((invocation) => Date.parse(invocation.finished ?? "") - Date.parse(invocation.started));
}

/** Returns the error of a request that the compiler refuses, too. */
async function refused(): Promise<components["schemas"]["Error"] | undefined> {
  const { error } = await client.POST("/api/v1/scheduler.Scheduler/GetJobs", {
    // @ts-expect-error - a project is a text
    body: { project: 1 },
  });
  return error;
}

/** Is never called: the compiler must refuse each of these. */
export async function wrong(): Promise<void> {
  // @ts-expect-error - there is no such method
  await client.POST("/api/v1/scheduler.Scheduler/DropJobs", { body: {} });
  // @ts-expect-error - a reference names project and job
  await client.POST("/api/v1/scheduler.Scheduler/PauseJob", { body: { job: "linux" } });
  // @ts-expect-error - no status is called so
  finished.push("BROKEN");
}

const answers: unknown[] = [];
for (const [path, body] of JSON.parse(bodies) as [keyof paths, object][]) {
  const { data, error, response } = await client.POST(path, { body } as never);
  answers.push([path, response.status, data ?? error]);
}
process.stdout.write(JSON.stringify({ answers, durations: await durations("demo", "linux"), refused: await refused() }));
