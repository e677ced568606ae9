package pillion;

import java.nio.charset.StandardCharsets;

/** A model with or without a drafter, and one running text. One thread at a time; {@link #cancel}
 * may come from any. */
public final class Pillion implements AutoCloseable {
    static {
        System.loadLibrary("pillion_jni");
    }

    private long handle;

    /**
     * @param drafter the assistant's file, or null
     * @param device  "cpu" or "htp"; a drafter of an htp target runs on the CPU
     * @param nCtx    positions, 0: the model's, at most 4096
     * @param threads the number of big cores
     */
    public Pillion(String model, String drafter, String device, int nCtx, int threads) {
        byte[] draft = drafter == null ? null : bytes(drafter);
        handle = open(bytes(model), draft, bytes(device), nCtx, threads);
    }

    /** The text to continue; what a text before it shares with it is not run again. */
    public void prompt(String text) {
        prompt(opened(), bytes(text));
    }

    /** The next bytes of the text (UTF-8; a character may be cut at their end), or null when the
     * model has ended it or the context is full. */
    public byte[] step() {
        return step(opened());
    }

    /** Ends a call that runs with a RuntimeException. */
    public synchronized void cancel() {
        cancel(handle);
    }

    @Override
    public synchronized void close() {
        close(handle);
        handle = 0;
    }

    private long opened() {
        if (handle == 0) throw new IllegalStateException("this Pillion is closed");
        return handle;
    }

    private static byte[] bytes(String text) {    // JNI's own strings are not UTF-8
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static native long open(
        byte[] model, byte[] drafter, byte[] device, int nCtx, int threads);

    private static native void prompt(long handle, byte[] text);

    private static native byte[] step(long handle);

    private static native void cancel(long handle);

    private static native void close(long handle);
}
