import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Link } from "../../src/connection/link";
import type { Wire } from "../../src/connection/socket";
import { Monitor } from "../../src/dashboard/monitor";

interface Asked {
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
  readonly request_id: string;
}

/** A server's end of a connection. */
class Server implements Wire {
  onopen: Wire["onopen"] = null;
  onmessage: Wire["onmessage"] = null;
  onclose: Wire["onclose"] = null;
  readonly asked: Asked[] = [];

  send(text: string): void {
    this.asked.push(JSON.parse(text) as Asked);
  }

  close(): void {
    return;
  }

  accept(): void {
    (this.onopen as ((event: unknown) => void) | null)?.({});
  }

  die(): void {
    (this.onclose as ((event: unknown) => void) | null)?.({ code: 1006 });
  }

  say(type: string, data: object, requestId?: string): void {
    const frame = { type, data, timestamp: "", ...(requestId === undefined ? {} : { request_id: requestId }) };
    (this.onmessage as ((event: unknown) => void) | null)?.({ data: JSON.stringify(frame) });
  }

  /** Answers the newest request of a type. */
  answer(type: string, data: object): Asked {
    const request = this.asked.findLast((candidate) => candidate.type === type);
    if (request === undefined) throw new Error(`nobody asked for ${type}`);
    this.say(type, data, request.request_id);
    return request;
  }
}

const HISTORY = { began: "a", step: 10, times: [10_000], series: { connections: [1] } };

describe("the monitor", () => {
  let servers: Server[] = [];
  let monitor: Monitor;

  function server(): Server {
    const found = servers.at(-1);
    if (found === undefined) throw new Error("no connection");
    return found;
  }

  beforeEach(() => {
    vi.useFakeTimers();
    servers = [];
    const link = new Link(() => {
      servers.push(new Server());
      return server();
    });
    monitor = new Monitor(link);
    monitor.open();
    link.start();
    server().accept();
  });

  afterEach(() => {
    monitor.close();
    vi.useRealTimers();
  });

  it("asks for the figures, and for those that come", () => {
    expect(
      server()
        .asked.map(({ type }) => type)
        .sort(),
    ).toEqual(["server_history", "server_overview", "server_stats"]);
    expect(server().asked.every(({ data }) => Number(data["interval"]) > 0)).toBe(true);
    server().answer("server_history", HISTORY);
    server().say("server_history", { ...HISTORY, times: [20_000], series: { connections: [2] } });
    expect(monitor.timeline.value?.lines["connections"]).toEqual([1, 2]);
  });

  it("is live while the server is heard, and says since when it is not", () => {
    expect(monitor.freshness.value).toBe("waiting");
    server().answer("server_stats", {});
    expect(monitor.freshness.value).toBe("live");
    const heard = Date.now();
    vi.advanceTimersByTime(12_000);
    expect(monitor.freshness.value).toBe("stale");
    expect(monitor.asOf.value).toBe(heard);
    expect(monitor.present.value).toBe(heard);
    server().say("server_stats", {});
    expect(monitor.freshness.value).toBe("live");
  });

  it("is stale at once when the connection is lost, and asks again when there is another", () => {
    server().answer("server_stats", {});
    server().answer("server_history", HISTORY);
    server().die();
    expect(monitor.freshness.value).toBe("stale");
    expect(monitor.timeline.value?.times).toEqual([10_000]);
    while (servers.length < 2) vi.advanceTimersToNextTimer();
    server().accept();
    server().answer("server_stats", {});
    server().answer("server_history", { ...HISTORY, began: "b", times: [90_000] });
    expect(monitor.freshness.value).toBe("live");
    expect(monitor.timeline.value?.times).toEqual([90_000]);
  });

  it("shows another stretch of time, and no answer to an earlier choice", () => {
    monitor.choose(3600);
    const late = server().asked.findLast(({ type }) => type === "server_history");
    monitor.choose(86_400);
    server().say("server_history", HISTORY, late?.request_id);
    expect(monitor.timeline.value).toBeNull();
    expect(server().answer("server_history", { ...HISTORY, step: 240 }).data["range"]).toBe(86_400);
    expect(monitor.timeline.value?.step).toBe(240);
  });

  it("lets go of the server when it is closed", () => {
    monitor.close();
    const last = server().asked.slice(-3);
    expect(last.map(({ type }) => type).sort()).toEqual(["server_history", "server_overview", "server_stats"]);
    expect(last.every(({ data }) => data["interval"] === 0)).toBe(true);
  });
});
