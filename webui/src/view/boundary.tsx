import { Component, type ComponentChildren } from "preact";

interface BoundaryProps {
  /** What stands in for children that cannot be drawn. */
  readonly fallback: ComponentChildren;
  readonly children: ComponentChildren;
}

/** Keeps a fault in one part of the page from taking the others with it. */
export class Boundary extends Component<BoundaryProps, { readonly failed: boolean }> {
  override state = { failed: false };

  static override getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override componentDidCatch(error: unknown): void {
    console.error(error);
  }

  override render(): ComponentChildren {
    return this.state.failed ? this.props.fallback : this.props.children;
  }
}
