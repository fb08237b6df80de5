import { navigate } from "../../router";

const WORKER = "/worker.js";

/** Lets a service worker keep the shell; where the browser has none, or trusts the certificate not enough, it goes on. */
export async function startWorker(): Promise<void> {
  if (!("serviceWorker" in navigator) || !import.meta.env.PROD) return;
  navigator.serviceWorker.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
    const to = (data as { open?: unknown } | null)?.open;
    if (typeof to === "string") navigate(to);
  });
  try {
    await navigator.serviceWorker.register(trusted(WORKER));
  } catch {
    return;
  }
}

/** The address of the worker's script, in the form that browsers with Trusted Types want. */
function trusted(address: string): string {
  const factory = (window as { trustedTypes?: TrustedTypes }).trustedTypes;
  const policy = factory?.createPolicy("worker", { createScriptURL: () => WORKER });
  return policy?.createScriptURL(address) ?? address;
}

/** https://www.w3.org/TR/trusted-types/, as far as it is used here. */
interface TrustedTypes {
  createPolicy(
    name: string,
    rules: { createScriptURL: (address: string) => string },
  ): {
    createScriptURL(address: string): string;
  };
}
