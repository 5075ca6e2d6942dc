// SPDX-License-Identifier: Apache-2.0
// Which splat is drawn before which: a counting sort on 16-bit keys, in a worker where the page may have one.

/** Writes into `order` (count,) the indices of `keys` (count,) from the least key to the greatest; equal keys keep their order. */
export function sortByKey(keys, order) {
  const starts = new Uint32Array(65537);
  for (const key of keys) {
    starts[key + 1]++;
  }
  for (let key = 0; key < 65536; key++) {
    starts[key + 1] += starts[key];
  }
  for (let i = 0; i < keys.length; i++) {
    order[starts[keys[i]]++] = i;
  }
}

/**
 * @param {(order: Uint32Array) => void} onOrder is called some time after each `sort`
 * @returns {{sort: (keys: Uint16Array) => void, dispose: () => void}} `sort` takes `keys` away
 */
export function createSorter(onOrder) {
  const here = (keys) => {
    const order = new Uint32Array(keys.length);
    sortByKey(keys, order);
    onOrder(order);
  };
  const url = URL.createObjectURL(new Blob([`${sortByKey}\n(${listen})();`], { type: "text/javascript" }));
  let worker = null;
  try {
    worker = new Worker(url);
  } catch {
    URL.revokeObjectURL(url); // a policy that forbids workers; the sort takes a millisecond or two here
    return { sort: here, dispose: () => {} };
  }
  let pending = null;
  worker.onmessage = ({ data }) => {
    pending = null;
    onOrder(data);
  };
  worker.onerror = () => {
    worker = null;
    if (pending) {
      here(pending);
    }
  };
  return {
    sort(keys) {
      if (worker) {
        pending = keys; // kept, so that no frame is lost where the worker turns out not to start
        worker.postMessage(keys);
      } else {
        here(keys);
      }
    },
    dispose() {
      worker?.terminate();
      URL.revokeObjectURL(url);
    },
  };
}

function listen() {
  onmessage = ({ data: keys }) => {
    const order = new Uint32Array(keys.length);
    sortByKey(keys, order);
    postMessage(order, [order.buffer]);
  };
}
