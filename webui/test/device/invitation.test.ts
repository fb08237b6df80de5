import { expect, test } from "vitest";
import { baseOf, guestOf, isLoopback, type Wish } from "../../src/device/invitation";
import { device } from "./device";

const anything: Wish = { name: null, view_only: false, projects: null };
const nobody = new Set<string>();

test("who comes by a code is one that was not there before", () => {
  const devices = [device("old"), device("phone")];
  expect(guestOf(devices, new Set(["old", "phone"]), anything)).toBeUndefined();
  expect(guestOf(devices, new Set(["old"]), anything)?.name).toBe("phone");
});

test("somebody who came by another code at the same time is not taken for the guest", () => {
  const wish: Wish = { name: "kitchen", view_only: true, projects: ["1", "2"] };
  const others = [
    device("kitchen", { id: "a", projects: ["1", "2"] }),
    device("kitchen", { id: "b", view_only: true }),
    device("kitchen", { id: "c", view_only: true, projects: ["1", "3"] }),
    device("desk", { id: "d", view_only: true, projects: ["1", "2"] }),
  ];
  expect(guestOf(others, nobody, wish)).toBeUndefined();
  const guest = device("kitchen 2", { id: "e", view_only: true, projects: ["2", "1"] });
  expect(guestOf([...others, guest], nobody, wish)).toBe(guest);
});

test("an address is told without the code", () => {
  expect(baseOf("https://192.168.1.5:8443/pair#AAAA-BBBB-CCCC")).toBe("https://192.168.1.5:8443");
});

test.each([
  "http://127.0.0.1:8080",
  "http://127.1.2.3",
  "https://localhost:8443",
  "https://[::1]:8443",
  "http://a.localhost",
])("%s leads every device to itself", (base) => expect(isLoopback(`${base}/pair#X`)).toBe(true));

test.each(["https://192.168.1.5:8443", "https://agent.example", "https://127.example", "https://[2001:db8::1]"])(
  "%s leads to the server",
  (base) => expect(isLoopback(`${base}/pair#X`)).toBe(false),
);
