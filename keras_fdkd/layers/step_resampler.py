class StepResampler:
    pass
