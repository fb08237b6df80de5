import { expect, test, vi } from "vitest";
import { ConnectionLostError, Socket } from "../../src/connection/socket";
import { ServerError } from "../../src/wire/frame";
import { FakeWire } from "./network";

function open(): { wire: FakeWire; socket: Socket; frames: string[]; ends: number[] } {
  const wire = new FakeWire();
  const frames: string[] = [];
  const ends: number[] = [];
  const socket = new Socket(
    wire,
    (frame) => frames.push(frame.type),
    (lost) => ends.push(lost.closeCode),
  );
  return { wire, socket, frames, ends };
}

test("a reply goes to who asked, everything else in order to the listener", async () => {
  const { wire, socket, frames } = open();
  const asked = socket.request("project_list", {});
  wire.say({ type: "project_state", project_id: "p", data: { id: "p" } });
  wire.reply("project_list", { projects: [], total: 0 }, "project_list_response");
  wire.say({ type: "queue_state", project_id: "p", data: { queue: [] } });
  expect(await asked).toEqual({ projects: [], total: 0 });
  expect(frames).toEqual(["project_state", "queue_state"]);
});

test("an entry that echoes the id of a request is still an entry", async () => {
  const { wire, socket, frames } = open();
  const asked = socket.request("agent_kill", {}, "p");
  const { request_id } = wire.asked("agent_kill");
  wire.say({ type: "process_killed", request_id, offset: 7, data: {} });
  wire.reply("agent_kill", { status: "killed" });
  await asked;
  expect(frames).toEqual(["process_killed"]);
});

test("the callback sees a reply before any later frame", async () => {
  const { wire, socket, frames } = open();
  const order: string[] = [];
  const asked = socket.request("project_join", { project_id: "p" }, "p", () =>
    order.push(`joined after ${frames.length}`),
  );
  wire.reply("project_join", { project_id: "p" });
  wire.say({ type: "prompt", offset: 1, data: {} });
  await asked;
  expect(order).toEqual(["joined after 0"]);
});

test("an error becomes an exception with its code and details", async () => {
  const { wire, socket } = open();
  const asked = socket.request("project_create", { path: "/x" });
  const { request_id } = wire.asked("project_create");
  wire.say({
    type: "error",
    request_id,
    data: { code: "PROJECT_EXISTS", message: "there", details: { project_id: "p" } },
  });
  const error = await asked.catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ServerError);
  expect(error).toMatchObject({ code: "PROJECT_EXISTS", message: "there", details: { project_id: "p" } });
});

test("what is no frame is ignored", () => {
  const { wire, frames } = open();
  for (const text of ["", "nonsense", "[]", "null", "1", "{}", '{"type":1,"data":{}}', '{"type":"x","data":null}']) {
    wire.say(text);
  }
  expect(frames).toEqual([]);
});

test("when it ends everybody who waits is told, once", async () => {
  const { wire, socket, ends } = open();
  const asked = socket.request("health_check", {});
  wire.drop(1001);
  wire.drop(1006);
  await expect(asked).rejects.toMatchObject({ closeCode: 1001, message: "The server is restarting." });
  await expect(socket.request("health_check", {})).rejects.toBeInstanceOf(ConnectionLostError);
  expect(ends).toEqual([1001]);
});

test("closing it from this side does not wait for the other one", () => {
  const { wire, socket, ends } = open();
  socket.close();
  expect([wire.closedBy, ends]).toEqual(["client", [1006]]);
  const late = vi.fn();
  wire.onmessage = late;
  wire.drop();
  expect(ends).toEqual([1006]);
});
